"""confluent-kafka (librdkafka) against the broker at BOOTSTRAP."""

import time

from confluent_kafka import (
    Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError,
    KafkaException, OFFSET_BEGINNING, Producer, TIMESTAMP_CREATE_TIME, TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
    ResourceType,
)

from checks import (
    BOOTSTRAP, CODECS, NODES, PATIENCE, REPLICATION_FACTOR, Member, Received, Record, Suite,
    compare, expect, sample_records, shared_between, two_members_and_one_leaves, unique, wait_until,
)

suite = Suite("confluent")
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
# Seconds. An administrator asks all brokers for groups, and one that is restarted again and again
# is asked anew after ever longer pauses.
WITHIN = 15 * PATIENCE


def result(futures):
    (future,) = futures.values()
    return future.result(WITHIN)


def delete_before(topic, offset):
    """Whoever asks a partition's leader in the moment in which another becomes it is told so, and
    has to ask again: the administrator does not."""
    for _ in range(20):
        futures = admin.delete_records([TopicPartition(topic, 0, offset)])
        try:
            result(futures)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION:
                time.sleep(0.2)
                continue
        break
    return futures


def expect_error(code, futures, what):
    try:
        answer = result(futures)
    except KafkaException as error:
        expect(error.args[0].code(), code, f"error of {what} ({error.args[0].str()})")
        return
    raise AssertionError(f"{what} succeeded: {answer}")


def create_topic(partitions=1, config=None):
    topic = unique("confluent")
    new = NewTopic(topic, partitions, REPLICATION_FACTOR, config=config or {})
    result(admin.create_topics([new]))

    def seen():
        # The next broker that is asked may have heard of it later than this one.
        found = admin.list_topics(timeout=5).topics.get(topic)
        return found is not None and len(found.partitions) == partitions

    wait_until(seen, "the new topic is seen")
    return topic


def producer(**settings):
    defaults = {"bootstrap.servers": BOOTSTRAP, "linger.ms": 20}
    return Producer({**defaults, **{key.replace("_", "."): v for key, v in settings.items()}})


def consumer(group=None, **settings):
    defaults = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group or unique("unused"),
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 300,
        "auto.commit.interval.ms": 200,
        "fetch.wait.max.ms": 100,
    }
    return Consumer({**defaults, **{key.replace("_", "."): v for key, v in settings.items()}})


def deliver(client, topic, records, partition=0):
    """Produces records and returns the acknowledged offsets in the order sent."""
    outcomes = {}

    def delivered(number):
        return lambda error, message: outcomes.update({number: error or message.offset()})

    for number, record in enumerate(records):
        client.produce(
            topic, value=record.value, key=record.key, headers=record.headers,
            timestamp=record.timestamp, partition=partition, on_delivery=delivered(number),
        )
    expect(client.flush(20 * PATIENCE), 0, "records left after a flush")
    return [outcomes[number] for number in range(len(records))]


def produce_values(topic, values, partitions=1):
    client, errors = producer(), []
    for number, value in enumerate(values):
        client.produce(
            topic, value, partition=number % partitions,
            on_delivery=lambda error, _: errors.append(error) if error else None,
        )
    expect(client.flush(20 * PATIENCE), 0, "records left after a flush")
    expect(errors, [], "delivery errors")


def read(client, count, limit=15):
    records, deadline = [], time.monotonic() + limit
    while len(records) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"read {len(records)} of {count} records in {limit} s")
        message = client.poll(0.1)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        records.append(message)
    return records


def read_partition(topic, count, offset=OFFSET_BEGINNING, **settings):
    client = consumer(**settings)
    try:
        client.assign([TopicPartition(topic, 0, offset)])
        return read(client, count)
    finally:
        client.close()


def as_record(message):
    kind, timestamp = message.timestamp()
    expect(kind, TIMESTAMP_CREATE_TIME, "timestamp type")
    return Record(message.key(), message.value(), list(message.headers() or []), timestamp)


@suite.parametrized(*((codec, idempotent) for codec in CODECS for idempotent in (False, True)))
def produce_and_consume(parameters):
    codec, idempotent = parameters
    topic, sent = create_topic(), sample_records()
    client = producer(compression_type=codec, enable_idempotence=idempotent)
    expect(deliver(client, topic, sent), list(range(len(sent))), "acknowledged offsets")
    received = [(m.offset(), as_record(m)) for m in read_partition(topic, len(sent))]
    compare(received, sent, codec)


@suite.parametrized("0", "1", "all")
def acknowledgement_settings(acks):
    topic = create_topic()
    records = [Record(None, str(i).encode(), [], int(time.time() * 1000)) for i in range(50)]
    deliver(producer(acks=acks, enable_idempotence=False), topic, records)
    values = [int(message.value()) for message in read_partition(topic, 50)]
    expect(values, list(range(50)), "values in order")


@suite.check
def many_batches_from_an_idempotent_producer_keep_their_order():
    topic = create_topic()
    settings = {
        "enable.idempotence": True, "batch.num.messages": 50, "linger.ms": 0,
        "max.in.flight": 5, "compression.type": "lz4",
    }
    client, failed = Producer({"bootstrap.servers": BOOTSTRAP, **settings}), []
    for number in range(20_000):
        client.produce(
            topic, str(number).encode(), partition=0,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        if number % 500 == 0:
            client.poll(0)
    expect(client.flush(30 * PATIENCE), 0, "records left after a flush")
    expect(failed, [], "delivery errors")
    values = [int(message.value()) for message in read_partition(topic, 20_000)]
    expect(values, list(range(20_000)), "values in order")


@suite.check
def log_append_time():
    topic = create_topic(config={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    deliver(producer(compression_type="gzip"), topic, [Record(None, b"x", [], 1_000)])
    (message,) = read_partition(topic, 1)
    kind, timestamp = message.timestamp()
    expect(kind, 2, "timestamp type")
    if not before - 1_000 <= timestamp <= before + 20_000:
        raise AssertionError(f"append time {timestamp} is not near {before}")


@suite.check
def a_value_larger_than_the_topic_allows_is_refused():
    topic = create_topic(config={"max.message.bytes": "2000"})
    records = [Record(None, bytes(5_000), [], int(time.time() * 1000))]
    (outcome,) = deliver(producer(), topic, records)
    expect(outcome.code(), KafkaError.MSG_SIZE_TOO_LARGE, "outcome")


@suite.check
def small_fetches_and_isolation_levels():
    topic = create_topic()
    value = bytes(range(256)) * 200
    records = [Record(str(i).encode(), value, [], int(time.time() * 1000)) for i in range(30)]
    deliver(producer(), topic, records)
    for settings in (
        {"fetch_message_max_bytes": 1_000, "fetch_max_bytes": 60_000, "message_max_bytes": 60_000},
        {"isolation_level": "read_uncommitted"},
        {"isolation_level": "read_committed"},
        {"check_crcs": True},
    ):
        keys = [int(message.key()) for message in read_partition(topic, 30, **settings)]
        expect(keys, list(range(30)), f"keys read with {settings}")


@suite.check
def offsets_of_beginning_end_and_times():
    topic, sent = create_topic(), sample_records()
    for record in sent:
        deliver(producer(), topic, [record])
    latest = max(record.timestamp for record in sent)
    client = consumer()
    watermarks = client.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    expect(watermarks, (0, len(sent)), "watermarks")
    offset_at = lambda t: client.offsets_for_times([TopicPartition(topic, 0, t)], 10)[0].offset
    expect(offset_at(latest - 1), 5, "first record at or after a time")
    expect(offset_at(latest + 1), -1, "a time after every record")
    client.close()
    for spec, wanted in (
        (OffsetSpec.earliest(), 0), (OffsetSpec.latest(), len(sent)),
        (OffsetSpec.max_timestamp(), 5), (OffsetSpec.for_timestamp(latest), 5),
    ):
        found = result(admin.list_offsets({TopicPartition(topic, 0): spec}))
        expect(found.offset, wanted, f"listed offset for {type(spec).__name__}")
    found = result(admin.list_offsets(
        {TopicPartition(topic, 0): OffsetSpec.latest()},
        isolation_level=IsolationLevel.READ_COMMITTED,
    ))
    expect(found.offset, len(sent), "latest committed offset")


class GroupClient:
    def __init__(self, topic, group, **settings):
        self.client = consumer(group, **settings)
        self.rebalances = 0
        self.fatal = None
        on_change = lambda *_: setattr(self, "rebalances", self.rebalances + 1)
        self.client.subscribe([topic], on_assign=on_change, on_revoke=on_change)

    def poll(self):
        messages = self.client.consume(100, 0.1)
        failed = [m.error() for m in messages if m.error()]
        for error in failed:
            if error.fatal() or error.code() == KafkaError._FATAL:
                self.fatal = error
        return [
            Received(m.partition(), m.offset(), m.value()) for m in messages if not m.error()
        ]

    def assignment(self):
        return {partition.partition for partition in self.client.assignment()}

    def close(self):
        self.client.close()


@suite.parametrized("range", "roundrobin", "cooperative-sticky")
def group_with_two_members_and_one_leaving(strategy):
    topic, group = create_topic(4), unique("group")

    def described():
        listed = admin.list_consumer_groups().result(WITHIN)
        states = {g.group_id: g.state for g in listed.valid}
        expect(states.get(group), ConsumerGroupState.STABLE, "state of the listed group")
        filtered = admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(WITHIN)
        expect(group in {g.group_id for g in filtered.valid}, False, "listed among the empty")
        description = result(admin.describe_consumer_groups([group]))
        expect(description.state, ConsumerGroupState.STABLE, "state of the described group")
        expect(description.partition_assignor, strategy, "assignor")
        assigned = [tp for m in description.members for tp in m.assignment.topic_partitions]
        expect(sorted(tp.partition for tp in assigned), [0, 1, 2, 3], "described assignment")
        expect({tp.topic for tp in assigned}, {topic}, "topics of the described assignment")
        expect_error(
            KafkaError.NON_EMPTY_GROUP, admin.delete_consumer_groups([group]), "deleting in use"
        )

    two_members_and_one_leaves(
        lambda: GroupClient(topic, group, partition_assignment_strategy=strategy),
        lambda values: produce_values(topic, values, 4), 4, described,
    )
    state = result(admin.describe_consumer_groups([group])).state
    expect(state, ConsumerGroupState.EMPTY, "state after all left")
    result(admin.delete_consumer_groups([group]))
    listed = lambda: {g.group_id for g in admin.list_consumer_groups().result(WITHIN).valid}
    wait_until(lambda: group not in listed(), "the group is gone")
    expect_error(
        KafkaError.GROUP_ID_NOT_FOUND, admin.delete_consumer_groups([group]), "deleting again"
    )


@suite.check
def a_static_member_returns_without_a_rebalance():
    topic, group = create_topic(4), unique("group")
    clients = {}

    def member(name):
        def opened():
            clients[name] = GroupClient(
                topic, group, group_instance_id=name, session_timeout_ms=20_000
            )
            return clients[name]

        return Member(opened)

    stays, returns = member("stays"), member("returns")
    try:
        wait_until(lambda: shared_between([stays, returns], 4), "two static members share")
        owned, rebalances = set(returns.owned), clients["stays"].rebalances
        instances = {
            m.group_instance_id for m in result(admin.describe_consumer_groups([group])).members
        }
        expect(instances, {"stays", "returns"}, "described instance ids")
        returns.leave()
        produce_values(topic, [b"while away"] * 4, 4)
        returns = member("returns")
        wait_until(lambda: returns.owned, "the static member owns partitions again")
        expect(returns.owned, owned, "what the static member owns after its return")
        wait_until(lambda: len(returns.received) + len(stays.received) == 4, "all four are read")
        expect(clients["stays"].rebalances, rebalances, "rebalances seen by the one that stayed")
    finally:
        stays.leave()
        returns.leave()


@suite.check
def a_static_member_is_fenced_by_its_twin():
    topic, group = create_topic(2), unique("group")
    first = GroupClient(topic, group, group_instance_id="twin")
    wait_until(lambda: first.poll() or first.assignment(), "the first owns the partitions")
    second = GroupClient(topic, group, group_instance_id="twin")
    try:
        wait_until(lambda: second.poll() or second.assignment(), "the second owns the partitions")
        wait_until(lambda: first.poll() or first.fatal, "the first is told that it is fenced")
        expect("FENCED" in first.fatal.str() or "fenced" in first.fatal.str(), True,
               f"error of the first: {first.fatal}")
    finally:
        first.close()
        second.close()


@suite.check
def a_member_that_stops_without_leaving_expires():
    topic, group = create_topic(2), unique("group")
    # A static member sends no LeaveGroup, so that only its session's end frees its partition.
    lost = Member(lambda: GroupClient(topic, group, group_instance_id="lost"))
    survivor = Member(lambda: GroupClient(topic, group))
    try:
        wait_until(lambda: shared_between([lost, survivor], 2), "both own a partition")
        lost.leave()
        stopped = time.monotonic()
        wait_until(lambda: survivor.owned == {0, 1}, "the survivor owns both partitions")
        if time.monotonic() - stopped < 4:
            raise AssertionError("the session of 6 s ended after less than 4 s")
    finally:
        lost.leave()
        survivor.leave()


@suite.check
def commit_and_resume():
    topic, group = create_topic(), unique("group")
    produce_values(topic, [str(i).encode() for i in range(20)])
    partition = TopicPartition(topic, 0)
    client = consumer(group, enable_auto_commit=False)
    client.subscribe([topic])
    read(client, 10)
    client.commit(
        offsets=[TopicPartition(topic, 0, 10, metadata="ten")], asynchronous=False
    )
    expect(client.committed([partition], 10)[0].offset, 10, "committed offset")
    client.close()
    client = consumer(group, enable_auto_commit=False)
    client.subscribe([topic])
    offsets = [message.offset() for message in read(client, 10)]
    expect(offsets, list(range(10, 20)), "offsets after resuming")
    client.close()

    def committed():
        request = [ConsumerGroupTopicPartitions(group)]
        (found,) = result(admin.list_consumer_group_offsets(request)).topic_partitions
        return (found.topic, found.partition, found.offset, found.metadata)

    expect(committed(), (topic, 0, 10, "ten"), "listed group offset")
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    result(admin.alter_consumer_group_offsets([change]))
    expect(committed()[2], 3, "altered group offset")
    client = consumer(group, enable_auto_commit=False)
    client.subscribe([topic])
    expect(read(client, 1)[0].offset(), 3, "offset after it was altered")
    client.close()


@suite.check
def the_cluster():
    def whole():
        # A broker that is away for the moment is not told of.
        found = admin.describe_cluster().result(WITHIN)
        ports = {f"{node.host}:{node.port}" for node in found.nodes}
        return found if len(ports) == NODES else None

    description = wait_until(whole, "all nodes are there")
    expect(description.cluster_id, admin.cluster_id(10), "cluster id")
    expect(description.cluster_id is not None, True, "there is a cluster id")
    broker = description.nodes[0].id
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    configs = result(admin.describe_configs([resource]))
    expect("log.dirs" in configs or "log.dir" in configs, True, "the broker's log.dirs")


@suite.check
def topics_and_their_configs():
    topic = create_topic(3, {"retention.ms": "123456789"})
    described = result(admin.describe_topics(TopicCollection([topic])))
    expect((described.name, len(described.partitions)), (topic, 3), "described topic")
    expect(described.is_internal, False, "internal")
    value_of = lambda key: result(
        admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])
    )[key]
    expect(value_of("retention.ms").value, "123456789", "a config set at creation")
    expect(value_of("retention.ms").is_default, False, "is a config set at creation a default")
    expect(value_of("cleanup.policy").is_default, True, "is a config not set a default")
    alter = lambda entries: result(admin.incremental_alter_configs([
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry(key, value, incremental_operation=operation)
            for key, value, operation in entries
        ])
    ]))
    alter([("retention.ms", "5000", AlterConfigOpType.SET),
           ("cleanup.policy", "compact", AlterConfigOpType.APPEND)])
    wait_until(lambda: value_of("retention.ms").value == "5000", "an altered config is seen")
    expect(value_of("cleanup.policy").value, "delete,compact", "an appended config")
    alter([("retention.ms", None, AlterConfigOpType.DELETE),
           ("cleanup.policy", "delete", AlterConfigOpType.SUBTRACT)])
    wait_until(lambda: value_of("retention.ms").value == "604800000", "a deleted config")
    expect(value_of("cleanup.policy").value, "compact", "a subtracted config")
    try:
        alter([("retention.ms", "soon", AlterConfigOpType.SET)])
        raise AssertionError("a config that is no number was accepted")
    except KafkaException as error:
        expect(error.args[0].code(), KafkaError.INVALID_CONFIG, "error")
    result(admin.alter_configs(
        [ConfigResource(ResourceType.TOPIC, topic, set_config={"segment.ms": "7000000"})]
    ))
    wait_until(lambda: value_of("segment.ms").value == "7000000", "the old way of altering")
    expect(value_of("cleanup.policy").value, "delete", "what the old way leaves out")


@suite.check
def refused_topics():
    topic = create_topic()
    for what, request, code in (
        ("an existing topic", NewTopic(topic, 1, 1), KafkaError.TOPIC_ALREADY_EXISTS),
        ("an invalid name", NewTopic("no spaces", 1, 1), KafkaError.TOPIC_EXCEPTION),
        ("too many copies", NewTopic(unique("t"), 1, NODES + 2),
         KafkaError.INVALID_REPLICATION_FACTOR),
        ("an unknown config", NewTopic(unique("t"), 1, 1, config={"no.such.key": "1"}),
         KafkaError.INVALID_CONFIG),
    ):
        expect_error(code, admin.create_topics([request]), what)
    name = unique("validated")
    result(admin.create_topics([NewTopic(name, 1, 1)], validate_only=True))
    expect(name in admin.list_topics(timeout=5).topics, False, "a validated topic exists")


@suite.check
def delete_records():
    topic = create_topic()
    produce_values(topic, [str(i).encode() for i in range(10)])
    deleted = result(delete_before(topic, 4))
    expect(deleted.low_watermark, 4, "low watermark")
    offsets = [message.offset() for message in read_partition(topic, 6, 1)]
    expect(offsets, list(range(4, 10)), "offsets after an out-of-range seek")
    past_the_end = delete_before(topic, 100)
    expect_error(KafkaError.OFFSET_OUT_OF_RANGE, past_the_end, "deleting past the end")
    deleted = result(delete_before(topic, -1))
    expect(deleted.low_watermark, 10, "low watermark after deleting everything")


@suite.check
def create_partitions():
    topic = create_topic()
    result(admin.create_partitions([NewPartitions(topic, 3)]))
    count = lambda: len(admin.list_topics(timeout=5).topics[topic].partitions)
    wait_until(lambda: count() == 3, "three partitions")
    produce_values(topic, [b"a", b"b", b"c"], 3)
    expect_error(
        KafkaError.INVALID_PARTITIONS, admin.create_partitions([NewPartitions(topic, 2)]), "fewer"
    )


@suite.check
def a_topic_created_again_has_nothing_of_the_old_one():
    topic = create_topic()
    produce_values(topic, [b"old"] * 5)
    result(admin.delete_topics([topic]))
    wait_until(lambda: topic not in admin.list_topics(timeout=5).topics, "the topic is gone")
    expect_error(
        KafkaError.UNKNOWN_TOPIC_OR_PART, admin.delete_topics([topic]), "deleting it again"
    )

    def created():
        try:
            result(admin.create_topics([NewTopic(topic, 1, REPLICATION_FACTOR)]))
            return True
        except KafkaException as error:
            expect(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "error")

    wait_until(created, "the topic can be created again")
    wait_until(lambda: topic in admin.list_topics(timeout=5).topics, "the topic is seen")
    produce_values(topic, [b"new"])
    (message,) = read_partition(topic, 1)
    expect((message.offset(), message.value()), (0, b"new"), "the first record")


suite.run()
