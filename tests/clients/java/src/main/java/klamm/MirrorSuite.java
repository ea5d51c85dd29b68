package klamm;

import static klamm.Checks.BOOTSTRAP;
import static klamm.Checks.expect;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.connect.mirror.Checkpoint;
import org.apache.kafka.connect.mirror.Heartbeat;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/**
 * What was made for MirrorMaker 2, Kafka's own MirrorClient, finds its way at BOOTSTRAP, which has a
 * link "west" to SOURCE that names its mirrors so. The cluster at BOOTSTRAP is called "east".
 */
public final class MirrorSuite {
    private static final String SOURCE =
            Objects.requireNonNull(System.getenv("SOURCE"), "SOURCE is not set");
    private static final String GROUP = "billing";
    private static final TopicPartition THERE = new TopicPartition("orders", 0);
    private static final TopicPartition HERE = new TopicPartition("west.orders", 0);
    private static final Map<String, Object> EAST = Map.of("bootstrap.servers", BOOTSTRAP);

    public static void main(String[] arguments) throws Exception {
        fill();
        Checks checks = new Checks("java-mirror");
        checks.add("topics and clusters are found by their names", MirrorSuite::names);
        checks.add("a group's offsets are translated", MirrorSuite::offsets);
        checks.add("heartbeats and checkpoints can be read", MirrorSuite::notes);
        checks.add("a group goes on in the mirror", MirrorSuite::goesOn);
        System.exit(checks.run());
    }

    /** Ten records there, of which the group has read seven. */
    private static void fill() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SOURCE))) {
            admin.createTopics(List.of(new NewTopic("orders", 1, (short) 1))).all().get();
            var serializer = new StringSerializer();
            try (var producer = new KafkaProducer<>(
                    Map.of("bootstrap.servers", SOURCE), serializer, serializer)) {
                for (int number = 0; number < 10; number++) {
                    producer.send(new ProducerRecord<>("orders", "k" + number, "v" + number)).get();
                }
            }
            var offsets = Map.of(THERE, new OffsetAndMetadata(7));
            admin.alterConsumerGroupOffsets(GROUP, offsets).all().get();
        }
    }

    /** A check that never comes true is still running when its time is over. */
    private static void until(Callable<Boolean> question) throws Exception {
        while (!question.call()) {
            Thread.sleep(100);
        }
    }

    private static void names() throws Exception {
        try (MirrorClient client = new MirrorClient(EAST)) {
            until(() -> client.remoteTopics()
                    .equals(Set.of("west.orders", "west.heartbeats")));
            expect(client.remoteTopics("west"), client.remoteTopics(), "topics of the west");
            expect(client.checkpointTopics(), Set.of("west.checkpoints.internal"), "checkpoints");
            expect(client.heartbeatTopics(), Set.of("heartbeats", "west.heartbeats"), "heartbeats");
            expect(client.upstreamClusters(), Set.of("west"), "upstream clusters");
            expect(client.replicationHops("west"), 1, "hops from the west");
            expect(client.replicationHops("north"), -1, "hops from the north");
        }
    }

    private static void offsets() throws Exception {
        var wanted = Map.of(HERE, new OffsetAndMetadata(7));
        until(() -> wanted.equals(
                RemoteClusterUtils.translateOffsets(EAST, "west", GROUP, Duration.ofSeconds(10))));
    }

    private static ConsumerRecord<byte[], byte[]> first(String topic) {
        var deserializer = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(EAST, deserializer, deserializer)) {
            var partitions = List.of(new TopicPartition(topic, 0));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    return record;
                }
            }
        }
    }

    private static void notes() {
        Heartbeat mine = Heartbeat.deserializeRecord(first("heartbeats"));
        expect(mine.sourceClusterAlias(), "west", "the source of the link");
        expect(mine.targetClusterAlias(), "east", "the target of the link");
        expect(mine.timestamp() > 1_700_000_000_000L, true, "it has a time");
        Heartbeat theirs = Heartbeat.deserializeRecord(first("west.heartbeats"));
        expect(theirs.sourceClusterAlias(), "east", "what was written to the source");
        Checkpoint checkpoint = Checkpoint.deserializeRecord(first("west.checkpoints.internal"));
        expect(checkpoint.consumerGroupId(), GROUP, "the group");
        expect(checkpoint.topicPartition(), HERE, "the mirror");
        expect(checkpoint.upstreamOffset(), 7L, "the offset there");
        expect(checkpoint.metadata(), "", "its metadata");
    }

    private static void goesOn() {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", BOOTSTRAP, "group.id", GROUP, "auto.offset.reset", "none");
        var deserializer = new StringDeserializer();
        try (var consumer = new KafkaConsumer<>(settings, deserializer, deserializer)) {
            consumer.subscribe(List.of("west.orders"));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    expect(record.offset(), 7L, "the first record read");
                    expect(record.value(), "v7", "its value");
                    return;
                }
            }
        }
    }
}
