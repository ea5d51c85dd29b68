package klamm;

import static klamm.Checks.BOOTSTRAP;
import static klamm.Checks.NODES;
import static klamm.Checks.PATIENCE;
import static klamm.Checks.REPLICATION_FACTOR;
import static klamm.Checks.eventually;
import static klamm.Checks.expect;
import static klamm.Checks.expectError;
import static klamm.Checks.unique;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's own Java clients against the broker at BOOTSTRAP. */
public final class ClientSuite {
    private static final Admin admin = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));

    private record Sent(byte[] key, byte[] value, List<Header> headers, long timestamp) {}

    public static void main(String[] arguments) {
        Checks checks = new Checks("java");
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (boolean idempotent : new boolean[] {false, true}) {
                checks.add("produce and consume [" + codec + ", idempotent " + idempotent + "]",
                        () -> produceAndConsume(codec, idempotent));
            }
        }
        for (String acks : List.of("0", "1", "all")) {
            checks.add("acknowledgement settings [" + acks + "]", () -> acknowledgements(acks));
        }
        checks.add("many batches keep their order", ClientSuite::manyBatches);
        checks.add("log append time", ClientSuite::logAppendTime);
        checks.add("a value larger than the topic allows is refused", ClientSuite::tooLarge);
        checks.add("offsets of beginning, end and times", ClientSuite::offsets);
        for (Class<?> assignor : List.of(RangeAssignor.class, RoundRobinAssignor.class,
                StickyAssignor.class, CooperativeStickyAssignor.class)) {
            checks.add("group with two members and one leaving [" + assignor.getSimpleName() + "]",
                    () -> twoMembersAndOneLeaves(assignor));
        }
        checks.add("a static member returns to its partitions", ClientSuite::staticMember);
        checks.add("an administrator removes members", ClientSuite::removeMembers);
        checks.add("commit and resume", ClientSuite::commitAndResume);
        checks.add("the cluster", ClientSuite::cluster);
        checks.add("topics and their configs", ClientSuite::topicsAndConfigs);
        checks.add("refused topics", ClientSuite::refusedTopics);
        checks.add("delete records", ClientSuite::deleteRecords);
        checks.add("log directories", ClientSuite::logDirectories);
        checks.add("create partitions", ClientSuite::createPartitions);
        checks.add("delete topics by name and by id", ClientSuite::deleteTopics);
        int exitCode = checks.run();
        Runtime.getRuntime().halt(exitCode);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String createTopic(int partitions, Map<String, String> configs)
            throws Exception {
        String topic = unique("java");
        NewTopic request = new NewTopic(topic, partitions, REPLICATION_FACTOR).configs(configs);
        admin.createTopics(List.of(request)).all().get();
        eventually("every partition of the new topic has a leader", () -> hasLeaders(topic, partitions));
        return topic;
    }

    private static boolean hasLeaders(String topic, int partitions) {
        try {
            var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            return found.partitions().size() == partitions
                    && found.partitions().stream().allMatch(p -> p.leader() != null);
        } catch (Exception error) {
            return false;
        }
    }

    private static String createTopic() throws Exception {
        return createTopic(1, Map.of());
    }

    private static KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP,
                "linger.ms", 20, "delivery.timeout.ms", 20_000 * PATIENCE,
                "request.timeout.ms", 10_000));
        all.putAll(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP,
                "auto.offset.reset", "earliest", "group.protocol", "classic",
                "heartbeat.interval.ms", 300, "auto.commit.interval.ms", 200,
                "fetch.max.wait.ms", 100));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void produceValues(String topic, List<String> values, int partitions)
            throws Exception {
        try (var producer = producer(Map.of())) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (int number = 0; number < values.size(); number++) {
                futures.add(producer.send(new ProducerRecord<>(topic, number % partitions, null,
                        bytes(values.get(number)))));
            }
            for (var future : futures) {
                future.get();
            }
        }
    }

    private static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).toList();
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(15).toNanos();
        while (records.size() < count) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("read " + records.size() + " of " + count + " records");
            }
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        return records;
    }

    private static List<ConsumerRecord<byte[], byte[]>> readPartition(
            String topic, long offset, int count) {
        try (var consumer = consumer(Map.of())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, offset);
            return read(consumer, count);
        }
    }

    private static List<Sent> samples() {
        long now = System.currentTimeMillis() - 60_000;
        byte[] large = bytes("0123456789abcdef".repeat(8_192));
        return List.of(
                new Sent(bytes("key"), bytes("value"), headers("header", "1"), now),
                new Sent(null, bytes("no key"), List.of(), now + 5),
                new Sent(bytes("tombstone"), null, List.of(), now + 3),
                new Sent(null, null, List.of(), now + 4),
                new Sent(new byte[0], new byte[0],
                        List.of(new RecordHeader("empty", new byte[0]),
                                new RecordHeader("null", (byte[]) null)), now + 1),
                new Sent(new byte[] {0, -1, -2}, bytes("x"), headers("twice", "a", "twice", "b"),
                        now + 2),
                new Sent(bytes("schlüssel"), bytes("größe ✓"), headers("naïve-✓", "\0"),
                        now + 1_000),
                new Sent(bytes("large"), large, List.of(), now + 7));
    }

    private static List<Header> headers(String... pairs) {
        List<Header> headers = new ArrayList<>();
        for (int at = 0; at < pairs.length; at += 2) {
            headers.add(new RecordHeader(pairs[at], bytes(pairs[at + 1])));
        }
        return headers;
    }

    private static void produceAndConsume(String codec, boolean idempotent) throws Exception {
        String topic = createTopic();
        List<Sent> sent = samples();
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        try (var producer = producer(Map.of("compression.type", codec,
                "enable.idempotence", idempotent))) {
            for (Sent each : sent) {
                futures.add(producer.send(new ProducerRecord<>(
                        topic, 0, each.timestamp, each.key, each.value, each.headers)));
            }
            for (int offset = 0; offset < sent.size(); offset++) {
                RecordMetadata metadata = futures.get(offset).get();
                expect(metadata.offset(), (long) offset, "acknowledged offset");
                expect(metadata.timestamp(), sent.get(offset).timestamp, "acknowledged timestamp");
            }
        }
        var received = readPartition(topic, 0, sent.size());
        expect(received.size(), sent.size(), "records");
        for (int offset = 0; offset < sent.size(); offset++) {
            var got = received.get(offset);
            Sent wanted = sent.get(offset);
            expect(got.offset(), (long) offset, "offset");
            expect(got.key(), wanted.key, "key of offset " + offset);
            expect(got.value(), wanted.value, "value of offset " + offset);
            expect(got.timestamp(), wanted.timestamp, "timestamp of offset " + offset);
            expect(got.timestampType(), TimestampType.CREATE_TIME, "timestamp type");
            expect(asList(got.headers()), wanted.headers, "headers of offset " + offset);
        }
    }

    private static List<Header> asList(Headers headers) {
        return Arrays.asList(headers.toArray());
    }

    private static void acknowledgements(String acks) throws Exception {
        String topic = createTopic();
        try (var producer = producer(Map.of("acks", acks, "enable.idempotence", false))) {
            for (String value : numbers(50)) {
                producer.send(new ProducerRecord<>(topic, bytes(value)));
            }
        }
        expect(values(readPartition(topic, 0, 50)), numbers(50), "values in order");
    }

    private static List<String> values(Collection<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(r -> new String(r.value(), StandardCharsets.UTF_8)).toList();
    }

    private static void manyBatches() throws Exception {
        String topic = createTopic();
        try (var producer = producer(Map.of("batch.size", 500, "linger.ms", 0))) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (String value : numbers(20_000)) {
                futures.add(producer.send(new ProducerRecord<>(topic, bytes(value))));
            }
            for (int offset = 0; offset < futures.size(); offset++) {
                expect(futures.get(offset).get().offset(), (long) offset, "acknowledged offset");
            }
        }
        expect(values(readPartition(topic, 0, 20_000)), numbers(20_000), "values in order");
    }

    private static void logAppendTime() throws Exception {
        String topic = createTopic(1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            var metadata = producer.send(new ProducerRecord<>(topic, 0, 1_000L, null, bytes("x")));
            long appended = metadata.get().timestamp();
            var record = readPartition(topic, 0, 1).get(0);
            expect(record.timestamp(), appended, "timestamp read, as the one acknowledged");
            expect(record.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
            expect(appended >= before - 1_000, true, "the append time is near now");
        }
    }

    private static void tooLarge() throws Exception {
        String topic = createTopic(1, Map.of("max.message.bytes", "2000"));
        try (var producer = producer(Map.of())) {
            expectError(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(topic, new byte[5_000])).get(),
                    "5,000 bytes");
            expect(producer.send(new ProducerRecord<>(topic, bytes("x"))).get().offset(), 0L,
                    "offset of the next record");
        }
    }

    private static void offsets() throws Exception {
        String topic = createTopic();
        var partition = new TopicPartition(topic, 0);
        List<Sent> sent = samples();
        long latest = sent.stream().mapToLong(Sent::timestamp).max().orElseThrow();
        try (var producer = producer(Map.of())) {
            for (Sent each : sent) {
                producer.send(new ProducerRecord<>(topic, 0, each.timestamp, null, bytes("x")))
                        .get();
            }
        }
        try (var consumer = consumer(Map.of())) {
            List<TopicPartition> all = List.of(partition);
            expect(consumer.beginningOffsets(all), Map.of(partition, 0L), "beginning");
            expect(consumer.endOffsets(all), Map.of(partition, (long) sent.size()), "end");
            var found = consumer.offsetsForTimes(Map.of(partition, latest - 1)).get(partition);
            expect(List.of(found.offset(), found.timestamp()), List.of(6L, latest), "of a time");
            var none = consumer.offsetsForTimes(Map.of(partition, latest + 1));
            expect(none.get(partition), null, "of a time after every record");
        }
        expect(listed(partition, OffsetSpec.earliest()), 0L, "earliest");
        expect(listed(partition, OffsetSpec.latest()), (long) sent.size(), "latest");
        expect(listed(partition, OffsetSpec.maxTimestamp()), 6L, "maximum timestamp");
        expect(listed(partition, OffsetSpec.forTimestamp(latest)), 6L, "timestamp");
        expect(listed(partition, OffsetSpec.earliestLocal()), 0L, "earliest local");
        var unknown = new TopicPartition(unique("none"), 0);
        expectError(UnknownTopicOrPartitionException.class, () -> {
            try (var impatient = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP,
                    "default.api.timeout.ms", 2_000, "request.timeout.ms", 1_000))) {
                try {
                    impatient.listOffsets(Map.of(unknown, OffsetSpec.latest())).all().get();
                } catch (java.util.concurrent.ExecutionException error) {
                    if (error.getCause() instanceof org.apache.kafka.common.errors.TimeoutException) {
                        // The client retries for as long as it may; the cause tells why.
                        throw new UnknownTopicOrPartitionException("timed out");
                    }
                    throw error;
                }
            }
        }, "listing an unknown topic");
    }

    private static long listed(TopicPartition partition, OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    /** A consumer that polls in a thread of its own. */
    private static final class Member extends Thread {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final String topic;
        private volatile boolean leaving;
        private volatile Set<Integer> owned = Set.of();
        private volatile int generation;
        private volatile Throwable error;
        private final List<String> received = new ArrayList<>();

        Member(String topic, Map<String, Object> settings) {
            this.topic = topic;
            consumer = consumer(settings);
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try (consumer) {
                consumer.subscribe(List.of(topic));
                while (!leaving) {
                    for (var record : consumer.poll(Duration.ofMillis(100))) {
                        synchronized (received) {
                            received.add(new String(record.value(), StandardCharsets.UTF_8));
                        }
                    }
                    Set<Integer> now = new HashSet<>();
                    consumer.assignment().forEach(partition -> now.add(partition.partition()));
                    owned = now;
                    generation = consumer.groupMetadata().generationId();
                }
            } catch (Throwable failure) {
                error = failure;
            }
            owned = Set.of();
        }

        List<String> received() {
            synchronized (received) {
                return List.copyOf(received);
            }
        }

        void leave() throws InterruptedException {
            leaving = true;
            join(20_000);
            if (error != null) {
                throw new AssertionError("a member failed", error);
            }
        }
    }

    private static boolean share(int partitions, Member... members) {
        List<Integer> owned = new ArrayList<>();
        for (Member member : members) {
            if (member.error != null) {
                throw new AssertionError("a member failed", member.error);
            }
            if (member.owned.isEmpty()) {
                return false;
            }
            owned.addAll(member.owned);
        }
        return owned.size() == partitions && new HashSet<>(owned).size() == partitions;
    }

    private static List<String> receivedBy(Member... members) {
        List<String> all = new ArrayList<>();
        for (Member member : members) {
            all.addAll(member.received());
        }
        return all;
    }

    private static Map<String, GroupState> listedGroups(ListConsumerGroupsOptions options)
            throws Exception {
        Map<String, GroupState> groups = new HashMap<>();
        admin.listConsumerGroups(options).all().get()
                .forEach(group -> groups.put(group.groupId(), group.groupState().orElse(null)));
        return groups;
    }

    private static GroupState stateOf(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState();
    }

    private static void twoMembersAndOneLeaves(Class<?> assignor) throws Exception {
        String topic = createTopic(4, Map.of());
        String group = unique("group");
        Map<String, Object> settings = Map.of("group.id", group,
                "partition.assignment.strategy", assignor.getName());
        Member first = new Member(topic, settings);
        Member second = new Member(topic, settings);
        try {
            eventually("two members share the partitions", () -> share(4, first, second));
            var description =
                    admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            expect(description.groupState(), GroupState.STABLE, "state of the described group");
            expect(description.members().size(), 2, "described members");
            Set<Integer> assigned = new TreeSet<>();
            description.members().forEach(member -> member.assignment().topicPartitions()
                    .forEach(partition -> assigned.add(partition.partition())));
            expect(assigned, Set.of(0, 1, 2, 3), "described assignment");
            expect(listedGroups(new ListConsumerGroupsOptions()).get(group), GroupState.STABLE,
                    "state of the listed group");
            var empty = new ListConsumerGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY));
            expect(listedGroups(empty).containsKey(group), false, "listed among the empty ones");
            expectError(GroupNotEmptyException.class,
                    () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "deleting it");

            List<String> all = new ArrayList<>(numbers(100));
            produceValues(topic, all, 4);
            eventually("both read everything", () -> receivedBy(first, second).size() >= 100);
            expect(first.received().isEmpty() || second.received().isEmpty(), false,
                    "one of two members read nothing");
            second.leave();
            List<String> after = numbers(100).stream().map(value -> "after " + value).toList();
            produceValues(topic, after, 4);
            all.addAll(after);
            eventually("the survivor owns everything", () -> share(4, first));
            eventually("the survivor read the rest",
                    () -> receivedBy(first, second).size() >= 200);
            Thread.sleep(300);
            List<String> received = new ArrayList<>(receivedBy(first, second));
            received.sort(null);
            all.sort(null);
            expect(received, all, "everything was read once");
        } finally {
            first.leave();
            second.leave();
        }
        expect(stateOf(group), GroupState.EMPTY, "state after all left");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        expectError(GroupIdNotFoundException.class,
                () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "deleting it again");
        expect(listedGroups(new ListConsumerGroupsOptions()).containsKey(group), false,
                "listed after its deletion");
    }

    private static void staticMember() throws Exception {
        String topic = createTopic(4, Map.of());
        String group = unique("group");
        Member stays = new Member(topic, Map.of("group.id", group, "group.instance.id", "stays"));
        Member leaves = new Member(topic, Map.of("group.id", group, "group.instance.id", "leaves"));
        Member returned = null;
        try {
            eventually("two static members share the partitions", () -> share(4, stays, leaves));
            Set<Integer> owned = leaves.owned;
            int generation = stays.generation;
            leaves.leave();
            Member back = new Member(topic,
                    Map.of("group.id", group, "group.instance.id", "leaves"));
            returned = back;
            eventually("the static member owns partitions again", () -> !back.owned.isEmpty());
            expect(back.owned, owned, "what the static member owns after its return");
            expect(stays.generation, generation, "generation");
        } finally {
            stays.leave();
            if (returned != null) {
                returned.leave();
            }
        }
        var both = new RemoveMembersFromConsumerGroupOptions(
                Set.of(new MemberToRemove("stays"), new MemberToRemove("leaves")));
        admin.removeMembersFromConsumerGroup(group, both).all().get();
        expect(stateOf(group), GroupState.EMPTY, "state after both were removed by instance id");
    }

    private static void removeMembers() throws Exception {
        String topic = createTopic(2, Map.of());
        String group = unique("group");
        try (var consumer = consumer(Map.of("group.id", group))) {
            consumer.subscribe(List.of(topic));
            eventually("the member owns the partitions", () -> {
                consumer.poll(Duration.ofMillis(50));
                return !consumer.assignment().isEmpty();
            });
            var everyone = new RemoveMembersFromConsumerGroupOptions();
            admin.removeMembersFromConsumerGroup(group, everyone).all().get();
            expect(stateOf(group), GroupState.EMPTY, "state");
            eventually("the removed member joins again", () -> {
                consumer.poll(Duration.ofMillis(50));
                try {
                    return stateOf(group) == GroupState.STABLE;
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
        }
    }

    private static void commitAndResume() throws Exception {
        String topic = createTopic();
        String group = unique("group");
        var partition = new TopicPartition(topic, 0);
        produceValues(topic, numbers(20), 1);
        Map<String, Object> settings = Map.of("group.id", group, "enable.auto.commit", false,
                "max.poll.records", 10);
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            expect(read(consumer, 10).size(), 10, "records of the first part");
            var ten = new OffsetAndMetadata(10, Optional.of(0), "ten");
            consumer.commitSync(Map.of(partition, ten));
            expect(consumer.committed(Set.of(partition)).get(partition), ten, "committed");
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            expect(read(consumer, 10).get(0).offset(), 10L, "offset after resuming");
        }
        expect(groupOffset(group, partition).metadata(), "ten", "listed metadata");
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(3)))
                .all().get();
        expect(groupOffset(group, partition).offset(), 3L, "altered offset");
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            expect(read(consumer, 10).get(0).offset(), 3L, "offset after it was altered");
        }
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        expect(groupOffset(group, partition), null, "offset after its deletion");
    }

    private static OffsetAndMetadata groupOffset(String group, TopicPartition partition)
            throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                .get(partition);
    }

    private static void cluster() throws Exception {
        // A broker that is away for the moment is not told of.
        var description = eventually("all nodes are there", () -> {
            var seen = admin.describeCluster();
            try {
                return seen.nodes().get().size() == NODES ? seen : null;
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        expect(description.clusterId().get().isEmpty(), false, "the cluster id is empty");
        expect(description.controller().get().isEmpty(), false, "there is no controller");
        String broker = description.nodes().get().iterator().next().idString();
        var resource = new ConfigResource(ConfigResource.Type.BROKER, broker);
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        expect(config.get("log.retention.hours") == null, false, "log.retention.hours is absent");
    }

    private static void topicsAndConfigs() throws Exception {
        String topic = createTopic(3, Map.of("retention.ms", "123456789"));
        expect(admin.listTopics().names().get().contains(topic), true, "the topic is listed");
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        expect(described.partitions().size(), 3, "described partitions");
        expect(described.isInternal(), false, "internal");
        var ids = TopicCollection.ofTopicIds(List.of(described.topicId()));
        var byId = admin.describeTopics(ids).allTopicIds().get().get(described.topicId());
        expect(byId.name(), topic, "name of the topic described by its id");

        expect(config(topic, "retention.ms").value(), "123456789", "a config set at creation");
        expect(config(topic, "retention.ms").source(),
                ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "its source");
        expect(config(topic, "cleanup.policy").source(),
                ConfigEntry.ConfigSource.DEFAULT_CONFIG, "the source of a config not set");
        alter(topic, AlterConfigOp.OpType.SET, "retention.ms", "5000");
        alter(topic, AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact");
        eventually("an altered config is seen",
                () -> quietly(() -> config(topic, "retention.ms").value()).equals("5000"));
        // Every broker tells what it has heard of, and each question may go to another.
        eventually("an appended config is seen", () -> quietly(
                () -> config(topic, "cleanup.policy").value()).equals("delete,compact"));
        alter(topic, AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete");
        alter(topic, AlterConfigOp.OpType.DELETE, "retention.ms", "");
        eventually("a deleted config is the default",
                () -> quietly(() -> config(topic, "retention.ms").value()).equals("604800000"));
        eventually("a subtracted config is seen",
                () -> quietly(() -> config(topic, "cleanup.policy").value()).equals("compact"));
        expectError(InvalidConfigurationException.class,
                () -> alter(topic, AlterConfigOp.OpType.SET, "retention.ms", "soon"), "no number");
        expectError(InvalidConfigurationException.class,
                () -> alter(topic, AlterConfigOp.OpType.SET, "no.such.key", "1"), "unknown key");
        var unknown = new ConfigResource(ConfigResource.Type.TOPIC, unique("none"));
        expectError(UnknownTopicOrPartitionException.class,
                () -> admin.describeConfigs(List.of(unknown)).all().get(), "an unknown topic");
    }

    private static String quietly(java.util.concurrent.Callable<String> call) {
        try {
            return call.call();
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }

    private static ConfigEntry config(String topic, String key) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(key);
    }

    private static void alter(String topic, AlterConfigOp.OpType type, String key, String value)
            throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var change = new AlterConfigOp(new ConfigEntry(key, value), type);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
    }

    private static void refusedTopics() throws Exception {
        String existing = createTopic();
        refused(TopicExistsException.class, new NewTopic(existing, 1, (short) 1));
        refused(InvalidTopicException.class, new NewTopic("no spaces", 1, (short) 1));
        refused(InvalidTopicException.class, new NewTopic("x".repeat(250), 1, (short) 1));
        refused(InvalidTopicException.class, new NewTopic("..", 1, (short) 1));
        refused(InvalidPartitionsException.class, new NewTopic(unique("t"), 0, (short) 1));
        refused(InvalidReplicationFactorException.class,
                new NewTopic(unique("t"), 1, (short) (NODES + 2)));
        refused(InvalidConfigurationException.class,
                new NewTopic(unique("t"), 1, (short) 1).configs(Map.of("no.such.key", "1")));
        String defaults = unique("t");
        admin.createTopics(List.of(
                new NewTopic(defaults, Optional.empty(), Optional.empty()))).all().get();
    }

    private static void refused(Class<? extends Throwable> error, NewTopic topic) {
        expectError(error, () -> admin.createTopics(List.of(topic)).all().get(),
                "creating " + topic);
    }

    private static void deleteRecords() throws Exception {
        String topic = createTopic();
        var partition = new TopicPartition(topic, 0);
        produceValues(topic, numbers(10), 1);
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
        expect(deleted.lowWatermarks().get(partition).get().lowWatermark(), 4L, "low watermark");
        expect(readPartition(topic, 1, 6).get(0).offset(), 4L, "offset after a seek before it");
        expectError(OffsetOutOfRangeException.class, () -> admin.deleteRecords(
                Map.of(partition, RecordsToDelete.beforeOffset(99))).all().get(), "past the end");
        admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).all().get();
        expect(listed(partition, OffsetSpec.earliest()), 10L, "earliest after deleting all");
    }

    private static void logDirectories() throws Exception {
        String topic = createTopic();
        var partition = new TopicPartition(topic, 0);
        produceValues(topic, numbers(10), 1);
        int broker = admin.describeCluster().nodes().get().iterator().next().id();
        var directories = admin.describeLogDirs(List.of(broker)).allDescriptions().get();
        var replicas = directories.get(broker).values().stream()
                .flatMap(directory -> directory.replicaInfos().entrySet().stream())
                .filter(entry -> entry.getKey().equals(partition)).toList();
        expect(replicas.size(), 1, "log directories that hold the partition");
        expect(replicas.get(0).getValue().size() > 0, true, "its size is positive");
    }

    private static void createPartitions() throws Exception {
        String topic = createTopic();
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        eventually("three partitions", () -> hasLeaders(topic, 3));
        produceValues(topic, numbers(3), 3);
        expectError(InvalidPartitionsException.class, () -> admin.createPartitions(
                Map.of(topic, NewPartitions.increaseTo(2))).all().get(), "fewer partitions");
    }

    private static void deleteTopics() throws Exception {
        String byName = createTopic();
        String byId = createTopic();
        admin.deleteTopics(List.of(byName)).all().get();
        var id = admin.describeTopics(List.of(byId)).allTopicNames().get().get(byId).topicId();
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        eventually("both topics are gone", () -> {
            try {
                var names = admin.listTopics().names().get();
                return !names.contains(byName) && !names.contains(byId);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        expectError(UnknownTopicOrPartitionException.class,
                () -> admin.deleteTopics(List.of(byName)).all().get(), "deleting it again");
    }
}
