package klamm;

import static klamm.Checks.BOOTSTRAP;
import static klamm.Checks.eventually;
import static klamm.Checks.expect;
import static klamm.Checks.expectContains;
import static klamm.Checks.unique;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClusterTool;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.DeleteRecordsCommand;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.LeaderElectionCommand;
import org.apache.kafka.tools.LogDirsCommand;
import org.apache.kafka.tools.MetadataQuorumCommand;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;
import org.apache.kafka.tools.reassign.ReassignPartitionsCommand;

/** Kafka's own console tools, driven through their main methods, against the broker at BOOTSTRAP. */
public final class ToolSuite {
    private static final PrintStream TERMINAL = System.out;
    private static final PrintStream ERRORS = System.err;
    private static final InputStream KEYBOARD = System.in;

    private interface Tool {
        void main(String[] arguments) throws Exception;
    }

    /** How a tool ends instead of ending the process. */
    private static final class Ended extends RuntimeException {}

    /** The status of the first exit a tool asked for: some catch the exception that stands for it and
     * then ask for another. */
    private static volatile Integer firstStatus;

    private record Result(int status, String output) {}

    private static final String REPLICATION_FACTOR = Short.toString(Checks.REPLICATION_FACTOR);

    private static String topic;

    public static void main(String[] arguments) {
        Exit.setExitProcedure((status, message) -> end(status));
        Exit.setHaltProcedure((status, message) -> end(status));
        Checks checks = new Checks("tools");
        checks.add("kafka-topics creates, lists and describes", ToolSuite::topics);
        checks.add("kafka-console-producer and kafka-console-consumer", ToolSuite::console);
        checks.add("kafka-get-offsets", ToolSuite::offsets);
        checks.add("kafka-consumer-groups", ToolSuite::groups);
        checks.add("kafka-configs", ToolSuite::configs);
        checks.add("kafka-delete-records", ToolSuite::deleteRecords);
        checks.add("kafka-log-dirs", ToolSuite::logDirectories);
        checks.add("kafka-broker-api-versions", ToolSuite::apiVersions);
        checks.add("kafka-cluster", ToolSuite::cluster);
        checks.add("kafka-metadata-quorum", ToolSuite::quorum);
        checks.add("kafka-leader-election", ToolSuite::elections);
        checks.add("kafka-reassign-partitions", ToolSuite::reassignments);
        checks.add("kafka-topics describes eligible replicas", ToolSuite::eligibleReplicas);
        checks.add("kafka-cluster lists brokers and unregisters none that is unknown",
                ToolSuite::unregister);
        checks.add("kafka-producer-perf-test and kafka-consumer-perf-test", ToolSuite::performance);
        checks.add("kafka-topics alters and deletes", ToolSuite::alterAndDelete);
        int exitCode = checks.run();
        TERMINAL.flush();
        Runtime.getRuntime().halt(exitCode);
    }

    private static void end(int status) {
        if (firstStatus == null) {
            firstStatus = status;
        }
        throw new Ended();
    }

    /** Runs a tool with its standard streams redirected. */
    private static Result run(Tool tool, String input, String... arguments) throws Exception {
        var output = new ByteArrayOutputStream();
        var stream = new PrintStream(output, true, StandardCharsets.UTF_8);
        System.setOut(stream);
        System.setErr(stream);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        firstStatus = null;
        try {
            tool.main(arguments);
        } catch (Ended ended) {
            // Its status is kept.
        } finally {
            System.setOut(TERMINAL);
            System.setErr(ERRORS);
            System.setIn(KEYBOARD);
        }
        int status = firstStatus == null ? 0 : firstStatus;
        return new Result(status, output.toString(StandardCharsets.UTF_8));
    }

    /** Runs a tool that must succeed, with --bootstrap-server before the arguments; its output. */
    private static String ok(Tool tool, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", BOOTSTRAP));
        all.addAll(Arrays.asList(arguments));
        Result result = run(tool, "", all.toArray(String[]::new));
        expect(result.status, 0, "exit status of " + all + " with " + result.output);
        return result.output;
    }

    private static void topics() throws Exception {
        topic = unique("tools");
        expectContains(ok(TopicCommand::main, "--create", "--topic", topic, "--partitions", "3",
                        "--replication-factor", REPLICATION_FACTOR, "--config",
                        "retention.ms=123456789"),
                "Created topic " + topic, "creating");
        eventually("the topic is listed", () -> {
            try {
                return ok(TopicCommand::main, "--list").contains(topic);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        String described = ok(TopicCommand::main, "--describe", "--topic", topic);
        expectContains(described, "PartitionCount: 3", "describing");
        expectContains(described, "retention.ms=123456789", "describing");
        expectContains(described, "Isr: ", "describing");
        expect(described.split("Leader: [0-9]", -1).length, 4, "leaders in " + described);
        ok(TopicCommand::main, "--create", "--if-not-exists", "--topic", topic);
        Result again = run(TopicCommand::main, "", "--bootstrap-server", BOOTSTRAP, "--create",
                "--topic", topic);
        expect(again.status, 1, "exit status of creating the topic again");
        expectContains(again.output, "already exists", "creating the topic again");
        // True at times while a broker is away, but not for good.
        eventually("no partition is under-replicated", () -> {
            try {
                return !ok(TopicCommand::main, "--describe", "--under-replicated-partitions",
                        "--topic", topic).contains("Partition: ");
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
    }

    private static void produce(String input, String... more) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", BOOTSTRAP, "--topic", topic,
                "--reader-property", "parse.key=true", "--reader-property", "key.separator=:"));
        all.addAll(Arrays.asList(more));
        Result result = run(ConsoleProducer::main, input, all.toArray(String[]::new));
        expect(result.status, 0, "exit status of the producer with " + result.output);
    }

    private static List<String> consume(int count, String... more) throws Exception {
        List<String> all = new ArrayList<>(List.of("--topic", topic, "--max-messages",
                Integer.toString(count), "--timeout-ms", "15000",
                "--formatter-property", "print.key=true",
                "--formatter-property", "key.separator=:"));
        all.addAll(Arrays.asList(more));
        String output = ok(ConsoleConsumer::main, all.toArray(String[]::new));
        expectContains(output, "Processed a total of " + count + " messages", "the consumer");
        return output.lines().filter(line -> line.contains(":value")).sorted().toList();
    }

    private static List<String> records(String codec) {
        return IntStream.range(0, 50).mapToObj(n -> codec + "-" + n + ":value " + n).sorted()
                .toList();
    }

    private static void console() throws Exception {
        List<String> sent = new ArrayList<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            produce(String.join("\n", records(codec)) + "\n", "--compression-codec", codec);
            sent.addAll(records(codec));
        }
        sent.sort(null);
        expect(consume(sent.size(), "--from-beginning"), sent, "the records consumed");
        expect(consume(1, "--partition", "0", "--offset", "earliest").size(), 1, "one record");
    }

    private static void offsets() throws Exception {
        String latest = ok(GetOffsetShell::main, "--topic", topic);
        int total = latest.lines().filter(line -> line.startsWith(topic))
                .mapToInt(line -> Integer.parseInt(line.split(":")[2])).sum();
        expect(total, 250, "end offsets in " + latest);
        String earliest = ok(GetOffsetShell::main, "--topic-partitions", topic + ":1",
                "--time", "earliest");
        expect(earliest.strip(), topic + ":1:0", "the earliest offset");
        String greatest = ok(GetOffsetShell::main, "--topic", topic, "--time", "max-timestamp");
        expect(greatest.lines().count(), 3L, "partitions in " + greatest);
    }

    private static void groups() throws Exception {
        String group = unique("tools-group");
        consume(250, "--from-beginning", "--group", group);
        String all = ok(ConsumerGroupCommand::main, "--list");
        expect(all.lines().anyMatch(group::equals), true, "the group is listed");
        expectContains(ok(ConsumerGroupCommand::main, "--list", "--state"), group, "with states");
        String described = ok(ConsumerGroupCommand::main, "--describe", "--group", group);
        int lag = described.lines().filter(line -> line.startsWith(group))
                .mapToInt(line -> Integer.parseInt(line.split("\\s+")[5])).sum();
        expect(lag, 0, "lag in " + described);
        String state = ok(ConsumerGroupCommand::main, "--describe", "--state", "--group", group);
        expectContains(state, "Empty", "the state");
        ok(ConsumerGroupCommand::main, "--describe", "--members", "--group", group);
        ok(ConsumerGroupCommand::main, "--reset-offsets", "--to-earliest", "--execute", "--group",
                group, "--topic", topic);
        described = ok(ConsumerGroupCommand::main, "--describe", "--group", group);
        lag = described.lines().filter(line -> line.startsWith(group))
                .mapToInt(line -> Integer.parseInt(line.split("\\s+")[5])).sum();
        expect(lag, 250, "lag after the reset in " + described);
        expect(consume(250, "--group", group).size(), 250, "records read again");
        expectContains(ok(ConsumerGroupCommand::main, "--delete-offsets", "--group", group,
                "--topic", topic), "Successful", "deleting offsets");
        expectContains(ok(ConsumerGroupCommand::main, "--delete", "--group", group),
                "successful", "deleting the group");
    }

    private static void configs() throws Exception {
        Tool tool = kafka.admin.ConfigCommand::main;
        ok(tool, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config",
                "retention.ms=5000,cleanup.policy=[compact,delete]");
        eventually("the altered configs are described", () -> {
            try {
                String described = ok(tool, "--describe", "--entity-type", "topics",
                        "--entity-name", topic);
                return described.contains("retention.ms=5000")
                        && described.contains("cleanup.policy=compact,delete");
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        ok(tool, "--alter", "--entity-type", "topics", "--entity-name", topic, "--delete-config",
                "retention.ms,cleanup.policy");
        expectContains(ok(tool, "--describe", "--all", "--entity-type", "topics", "--entity-name",
                topic), "retention.ms=604800000", "the default after the deletion");
        String broker = ok(TopicCommand::main, "--describe", "--topic", topic)
                .replaceAll("(?s).*?Leader: ([0-9]+).*", "$1");
        expectContains(ok(tool, "--describe", "--all", "--entity-type", "brokers", "--entity-name",
                broker), "log.retention.hours=", "the broker's configs");
    }

    private static void deleteRecords() throws Exception {
        Path file = Files.createTempFile("delete-records", ".json");
        try {
            Files.writeString(file, "{\"partitions\": [{\"topic\": \"" + topic
                    + "\", \"partition\": 0, \"offset\": 1}], \"version\": 1}");
            String output = ok(DeleteRecordsCommand::main, "--offset-json-file", file.toString());
            expectContains(output, "low_watermark: 1", "deleting records");
        } finally {
            Files.delete(file);
        }
        expect(ok(GetOffsetShell::main, "--topic-partitions", topic + ":0", "--time", "earliest")
                .strip(), topic + ":0:1", "the earliest offset afterwards");
    }

    private static void logDirectories() throws Exception {
        String output = ok(LogDirsCommand::main, "--describe", "--topic-list", topic);
        expectContains(output, "\"" + topic + "-0\"", "the log directories");
    }

    private static void apiVersions() throws Exception {
        String output = ok(BrokerApiVersionsCommand::main);
        for (String api : List.of("Produce(0): ", "Fetch(1): ", "ApiVersions(18): ")) {
            expectContains(output, api, "the versions");
            String line = output.lines().filter(each -> each.contains(api)).findFirst().orElse("");
            expectContains(line, "usable: ", api);
        }
    }

    private static void cluster() throws Exception {
        expectContains(ok((Tool) arguments -> {
            List<String> all = new ArrayList<>(List.of("cluster-id"));
            all.addAll(Arrays.asList(arguments));
            ClusterTool.main(all.toArray(String[]::new));
        }), "Cluster ID: ", "the cluster id");
    }

    private static void quorum() throws Exception {
        String status = ok((Tool) arguments -> quorumTool(arguments, "describe", "--status"));
        for (String line : List.of("ClusterId:", "LeaderId:", "LeaderEpoch:", "HighWatermark:",
                "MaxFollowerLag:", "CurrentVoters:", "CurrentObservers:")) {
            expectContains(status, line, "the quorum's status");
        }
        String replication = ok((Tool) arguments ->
                quorumTool(arguments, "describe", "--replication"));
        expectContains(replication, "Leader", "the quorum's replication");
        expect(replication.lines().filter(line -> line.contains("Leader")).count(), 1L,
                "leaders in " + replication);
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", BOOTSTRAP,
                "remove-controller", "--controller-id", "987", "--controller-directory-id",
                "AAAAAAAAAAAAAAAAAAAAAQ"));
        Result unknown = run(MetadataQuorumCommand::main, "", all.toArray(String[]::new));
        expect(unknown.status, 1, "exit status of removing an unknown voter: " + unknown.output);
    }

    /** The tool wants its own options before the command. */
    private static void quorumTool(String[] arguments, String... command) {
        List<String> all = new ArrayList<>(Arrays.asList(arguments));
        all.addAll(Arrays.asList(command));
        MetadataQuorumCommand.main(all.toArray(String[]::new));
    }

    /** Asks for the preferred leaders. */
    private static Result elect(String... arguments) {
        List<String> all = new ArrayList<>(
                List.of("--bootstrap-server", BOOTSTRAP, "--election-type", "preferred"));
        all.addAll(Arrays.asList(arguments));
        try {
            return run(LeaderElectionCommand::main, "", all.toArray(String[]::new));
        } catch (Exception error) {
            throw new AssertionError(error);
        }
    }

    private static void elections() throws Exception {
        // A broker that is away for the moment cannot lead: whoever asks for it has to ask again.
        eventually("every preferred leader is elected", () -> {
            Result all = elect("--all-topic-partitions");
            return all.status == 0 && !all.output.contains("Error");
        });
        eventually("there is nothing to elect", () -> {
            Result one = elect("--topic", topic, "--partition", "0");
            String done = "Valid replica already elected for partitions";
            return one.status == 0 && one.output.contains(done);
        });
        Result missing = run(LeaderElectionCommand::main, "", "--bootstrap-server", BOOTSTRAP,
                "--election-type", "preferred", "--topic", unique("missing"), "--partition", "0");
        expect(missing.status, 1, "exit status for a topic that is missing: " + missing.output);
    }

    /** The ids of the cluster's brokers, as the tools print them. */
    private static List<String> brokers() throws Exception {
        String output = ok((Tool) arguments -> {
            List<String> all = new ArrayList<>(List.of("list-endpoints"));
            all.addAll(Arrays.asList(arguments));
            ClusterTool.main(all.toArray(String[]::new));
        });
        return output.lines().skip(1).map(line -> line.strip().split("\\s+")[0])
                .filter(id -> id.matches("[0-9]+")).sorted().toList();
    }

    /** Moves partition 0 to other brokers if there are any, with throttles, and verifies. */
    private static void reassignments() throws Exception {
        List<String> brokers = brokers();
        Path topics = Files.createTempFile("topics", ".json");
        Path plan = Files.createTempFile("plan", ".json");
        try {
            Files.writeString(topics, "{\"topics\": [{\"topic\": \"" + topic
                    + "\"}], \"version\": 1}");
            String generated = ok(ReassignPartitionsCommand::main, "--generate",
                    "--topics-to-move-json-file", topics.toString(),
                    "--broker-list", String.join(",", brokers));
            expectContains(generated, "Proposed partition reassignment configuration",
                    "generating");
            // Several replicas where there were several: a broker may be away at any time.
            List<String> to = new ArrayList<>(List.of(brokers.get(brokers.size() - 1)));
            if (Checks.REPLICATION_FACTOR > 1) {
                to.add(brokers.get(0));
            }
            String replicas = String.join(",", to);
            Files.writeString(plan, "{\"version\": 1, \"partitions\": [{\"topic\": \"" + topic
                    + "\", \"partition\": 0, \"replicas\": [" + replicas + "]}]}");
            expectContains(ok(ReassignPartitionsCommand::main, "--execute", "--throttle",
                            "50000000", "--reassignment-json-file", plan.toString()),
                    "Successfully started partition reassignment", "executing");
            eventually("the partition has moved", () -> {
                try {
                    return ok(ReassignPartitionsCommand::main, "--verify",
                            "--reassignment-json-file", plan.toString())
                            .contains("is completed");
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            expectContains(ok(ReassignPartitionsCommand::main, "--list"),
                    "No partition reassignments found", "listing");
            String described = ok(TopicCommand::main, "--describe", "--topic", topic);
            String moved = described.lines().filter(line -> line.contains("Partition: 0\t"))
                    .collect(Collectors.joining());
            expectContains(moved, "\tReplicas: " + replicas + "\t", "describing");
            expect(to.stream().anyMatch(id -> moved.contains("Leader: " + id + "\t")), true,
                    "one of them leads in " + moved);
        } finally {
            Files.delete(topics);
            Files.delete(plan);
        }
    }

    private static void eligibleReplicas() throws Exception {
        String described = ok(TopicCommand::main, "--describe", "--topic", topic);
        expectContains(described, "Elr: ", "describing");
        expectContains(described, "LastKnownElr: ", "describing");
        String leaderless = ok(TopicCommand::main, "--describe", "--unavailable-partitions");
        expect(leaderless.contains(topic), false, "leaderless partitions: " + leaderless);
        String under = ok(TopicCommand::main, "--describe", "--under-min-isr-partitions",
                "--topic", topic);
        expect(under.contains("Partition: "), false, "under the minimum: " + under);
    }

    private static void unregister() throws Exception {
        expect(brokers().isEmpty(), false, "brokers listed");
        Result unknown = run((Tool) ClusterTool::main, "", "unregister", "--bootstrap-server",
                BOOTSTRAP, "--id", "987");
        expect(unknown.status != 0 || unknown.output.contains("not registered"), true,
                "unregistering an unknown broker: " + unknown.output);
    }

    private static void performance() throws Exception {
        Result produced = run(ProducerPerformance::main, "", "--bootstrap-server", BOOTSTRAP,
                "--topic", topic, "--num-records", "20000", "--record-size", "100",
                "--throughput", "-1");
        expect(produced.status, 0, "exit status with " + produced.output);
        expectContains(produced.output, "20000 records sent", "producing");
        Result consumed = run(ConsumerPerformance::main, "", "--bootstrap-server", BOOTSTRAP,
                "--topic", topic, "--num-records", "20000", "--timeout", "15000");
        expect(consumed.status, 0, "exit status with " + consumed.output);
        String last = consumed.output.lines().filter(line -> line.startsWith("20"))
                .collect(Collectors.joining());
        expect(last.isEmpty(), false, "no figures in " + consumed.output);
    }

    private static void alterAndDelete() throws Exception {
        ok(TopicCommand::main, "--alter", "--topic", topic, "--partitions", "5");
        eventually("five partitions are described", () -> {
            try {
                return ok(TopicCommand::main, "--describe", "--topic", topic)
                        .contains("PartitionCount: 5");
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
        ok(TopicCommand::main, "--delete", "--topic", topic);
        eventually("the topic is gone", () -> {
            try {
                return ok(TopicCommand::main, "--list").lines().noneMatch(topic::equals);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
    }
}
