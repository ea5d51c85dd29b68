// Apache Kafka's own clients for a run of `klamm-jepsen test`.
//
// Reads a task (one JSON object, one line) and then words from stdin; writes events of a history to
// stdout: see jepsen/src/harness/clients/worker.rs. System.nanoTime is CLOCK_MONOTONIC on Linux.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class JavaWorker {
    static final ObjectMapper JSON = new ObjectMapper();
    static final AtomicLong OPS = new AtomicLong();
    static final AtomicLong IDS = new AtomicLong();
    static final List<TopicPartition> ALL = new ArrayList<>();
    static JsonNode task;
    static volatile boolean ending;
    static volatile boolean drained;

    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        task = JSON.readTree(input.readLine());
        IDS.set(task.get("first_id").asLong());
        for (JsonNode topic : task.get("topics")) {
            for (int number = 0; number < topic.get(1).asInt(); number++) {
                ALL.add(new TopicPartition(topic.get(0).asText(), number));
            }
        }
        Thread listener = new Thread(() -> listen(input));
        listener.setDaemon(true);
        listener.start();
        String name = task.get("name").asText();
        List<Thread> clients = List.of(
            new Thread(() -> produce(name + "-producer", true)),
            new Thread(() -> produce(name + "-plain", false)),
            new Thread(() -> read(name + "-reader")),
            new Thread(() -> subscribe(name + "-subscriber")));
        clients.forEach(Thread::start);
        for (Thread client : clients) {
            client.join();
        }
        System.exit(0);
    }

    static void listen(BufferedReader input) {
        try {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                if (line.equals("end writing")) {
                    ending = true;
                } else if (line.equals("end")) {
                    break;
                }
            }
        } catch (java.io.IOException gone) {
            System.err.println(gone);
        }
        ending = true;
        drained = true;
    }

    static synchronized void tell(String process, String type, long op, String key, JsonNode what) {
        ObjectNode event = JSON.createObjectNode();
        event.put("time", System.nanoTime());
        event.put("process", process);
        event.put("type", type);
        event.put("op", op);
        event.set(key, what);
        System.out.println(event);
    }

    static long invoke(String process, ObjectNode call) {
        long op = OPS.incrementAndGet();
        tell(process, "invoke", op, "call", call);
        return op;
    }

    static void ok(String process, long op, ObjectNode answer) {
        tell(process, "ok", op, "answer", answer);
    }

    // The library tells the last error only: an attempt before it may have worked.
    static void unknown(String process, long op) {
        ArrayNode attempts = JSON.createArrayNode();
        attempts.addObject().put("error", "TIMEOUT");
        tell(process, "info", op, "attempts", attempts);
    }

    static ObjectNode named(String name) {
        return JSON.createObjectNode().put("f", name);
    }

    static ObjectNode of(TopicPartition partition) {
        ObjectNode of = JSON.createObjectNode();
        return of.put("topic", partition.topic()).put("partition", partition.partition());
    }

    static long digest(byte[] value) {
        CRC32C sum = new CRC32C();
        sum.update(value);
        return sum.getValue();
    }

    // As jepsen/src/harness/content.rs has it.
    static byte[] valueOf(long id) {
        String filler = String.valueOf((char) ('a' + id % 26));
        int count = (int) Long.remainderUnsigned(id * 7919, 181);
        String value = String.format("%019d:", id) + filler.repeat(count);
        return value.getBytes(StandardCharsets.US_ASCII);
    }

    static Properties shared(String process) {
        Properties shared = new Properties();
        shared.put("bootstrap.servers", task.get("bootstrap").asText());
        shared.put("client.id", process);
        shared.put("request.timeout.ms", "4000");
        shared.put("default.api.timeout.ms", "8000");
        shared.put("reconnect.backoff.max.ms", "500");
        shared.put("socket.connection.setup.timeout.ms", "2000");
        shared.put("metadata.max.age.ms", "5000");
        return shared;
    }

    static void produce(String name, boolean idempotent) {
        Random random = new Random(task.get("seed").asLong() ^ name.hashCode());
        for (int life = 1; !ending; life++) {
            String process = name + "." + life;
            Properties settings = shared(process);
            settings.put("acks", "all");
            settings.put("enable.idempotence", String.valueOf(idempotent));
            settings.put("linger.ms", random.nextBoolean() ? "0" : "5");
            settings.put("delivery.timeout.ms", "12000");
            settings.put("max.block.ms", "4000");
            ByteArraySerializer bytes = new ByteArraySerializer();
            try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
                AtomicInteger failures = new AtomicInteger();
                long until = System.nanoTime() + Duration.ofSeconds(25).toNanos();
                while (!ending && System.nanoTime() < until && failures.get() < 50) {
                    send(producer, process, idempotent, random, failures);
                    sleep(10);
                }
                producer.flush();
            } catch (KafkaException failed) {
                System.err.println(process + ": " + failed);
                sleep(100);
            }
        }
    }

    static void send(
            KafkaProducer<byte[], byte[]> producer,
            String process,
            boolean idempotent,
            Random random,
            AtomicInteger failures) {
        TopicPartition to = ALL.get(random.nextInt(ALL.size()));
        long id = IDS.incrementAndGet();
        byte[] value = valueOf(id);
        long stamp = System.currentTimeMillis();
        ObjectNode call = named("send");
        call.set("to", of(to));
        call.put("acks", -1).put("library", idempotent ? "idempotent" : "repeats");
        ObjectNode record = call.putArray("records").addObject();
        record.put("id", id).put("digest", digest(value)).put("timestamp", stamp);
        long op = invoke(process, call);
        ProducerRecord<byte[], byte[]> sent =
            new ProducerRecord<>(to.topic(), to.partition(), stamp, null, value);
        try {
            producer.send(sent, (metadata, error) -> {
                if (error != null) {
                    failures.incrementAndGet();
                    unknown(process, op);
                    return;
                }
                ObjectNode answer = named("send");
                answer.put("base_offset", metadata.hasOffset() ? metadata.offset() : -1);
                answer.put("log_append_time", -1).put("log_start_offset", -1);
                ok(process, op, answer);
            });
        } catch (KafkaException | IllegalStateException failed) {
            // The callback is not called then.
            failures.incrementAndGet();
            unknown(process, op);
        }
    }

    static ArrayNode told(Map<TopicPartition, Long> positions) {
        ArrayNode told = JSON.createArrayNode();
        positions.forEach((partition, offset) -> {
            ObjectNode position = told.addObject();
            position.set("of", of(partition));
            position.put("offset", offset);
        });
        return told;
    }

    static TreeMap<TopicPartition, Long> positions() {
        return new TreeMap<>((one, other) -> one.toString().compareTo(other.toString()));
    }

    static ObjectNode asked(Map<TopicPartition, Long> positions) {
        ObjectNode call = named("read");
        call.set("from", told(positions));
        return call.put("committed", false).put("library", true);
    }

    static void assigned(String process, Map<TopicPartition, Long> positions) {
        ObjectNode call = named("assign");
        call.set("positions", told(positions));
        ok(process, invoke(process, call), named("assign"));
    }

    static void enter(
            String process,
            long op,
            Map<TopicPartition, Long> positions,
            ConsumerRecords<byte[], byte[]> records) {
        ObjectNode answer = named("read");
        ArrayNode parts = answer.putArray("partitions");
        for (TopicPartition partition : records.partitions()) {
            ObjectNode part = parts.addObject();
            part.set("of", of(partition));
            part.put("from", positions.get(partition));
            part.put("high_watermark", -1).put("last_stable_offset", -1);
            part.put("log_start_offset", -1);
            ArrayNode entered = part.putArray("records");
            for (ConsumerRecord<byte[], byte[]> record : records.records(partition)) {
                entered.add(seen(record));
                positions.put(partition, record.offset() + 1);
            }
        }
        ok(process, op, answer);
    }

    static ObjectNode seen(ConsumerRecord<byte[], byte[]> record) {
        byte[] value = record.value() == null ? new byte[0] : record.value();
        ObjectNode seen = JSON.createObjectNode();
        seen.put("offset", record.offset());
        try {
            seen.put("id", Long.parseLong(new String(value, 0, 19, StandardCharsets.US_ASCII)));
        } catch (NumberFormatException | StringIndexOutOfBoundsException none) {
            seen.putNull("id");
        }
        seen.put("tombstone", record.value() == null);
        seen.put("digest", digest(value)).put("timestamp", record.timestamp());
        return seen;
    }

    static KafkaConsumer<byte[], byte[]> consumer(String process, String reset) {
        Properties settings = shared(process);
        settings.put("group.id", task.get("group").asText());
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", reset);
        settings.put("fetch.max.wait.ms", "300");
        settings.put("session.timeout.ms", "6000");
        settings.put("heartbeat.interval.ms", "1000");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        return new KafkaConsumer<>(settings, bytes, bytes);
    }

    // Assigns all partitions from their starts, again and again.
    static void read(String name) {
        for (int life = 1; !drained; life++) {
            String process = name + "." + life;
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(process, "none")) {
                Map<TopicPartition, Long> positions = positions();
                consumer.assign(ALL);
                for (TopicPartition partition : ALL) {
                    consumer.seek(partition, 0);
                    positions.put(partition, 0L);
                }
                assigned(process, positions);
                long until = System.nanoTime() + Duration.ofSeconds(15).toNanos();
                while (!drained && System.nanoTime() < until) {
                    long op = invoke(process, asked(positions));
                    try {
                        enter(process, op, positions, consumer.poll(Duration.ofMillis(500)));
                    } catch (KafkaException failed) {
                        unknown(process, op);
                        throw failed;
                    }
                }
            } catch (KafkaException failed) {
                System.err.println(process + ": " + failed);
                sleep(100);
            }
        }
    }

    // A member of a group of one. Its commits are not in the history.
    static void subscribe(String name) {
        for (int life = 1; !drained; life++) {
            String process = name + "." + life;
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(process, "earliest")) {
                Map<TopicPartition, Long> positions = positions();
                List<String> topics = ALL.stream().map(TopicPartition::topic).distinct().toList();
                consumer.subscribe(topics, new ConsumerRebalanceListener() {
                    public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                        positions.clear();
                    }

                    public void onPartitionsAssigned(Collection<TopicPartition> given) {
                        positions.clear();
                    }
                });
                long until = System.nanoTime() + Duration.ofSeconds(20).toNanos();
                while (!drained && System.nanoTime() < until) {
                    take(process, consumer, positions);
                }
            } catch (KafkaException failed) {
                System.err.println(process + ": " + failed);
                sleep(100);
            }
        }
    }

    static void take(
            String process,
            KafkaConsumer<byte[], byte[]> consumer,
            Map<TopicPartition, Long> positions) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(500));
        if (records.isEmpty()) {
            return;
        }
        boolean fresh = false;
        for (TopicPartition partition : records.partitions()) {
            long first = records.records(partition).get(0).offset();
            fresh |= positions.putIfAbsent(partition, first) == null;
        }
        if (fresh) {
            assigned(process, positions);
        }
        enter(process, invoke(process, asked(positions)), positions, records);
        if (OPS.get() % 8 == 0) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new TreeMap<>(
                (one, other) -> one.toString().compareTo(other.toString()));
            positions.forEach((of, offset) -> offsets.put(of, new OffsetAndMetadata(offset)));
            consumer.commitSync(offsets);
        }
    }

    static void sleep(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
