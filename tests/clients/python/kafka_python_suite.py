"""kafka-python against the broker at BOOTSTRAP."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, MemberToRemove, OffsetSpec
from kafka.structs import OffsetAndMetadata

from checks import (
    BOOTSTRAP, CODECS, REPLICATION_FACTOR, Received, Record, Suite, compare, expect,
    sample_records, two_members_and_one_leaves, unique, wait_until,
)

suite = Suite("kafka-python")


class Admin:
    """An administrator that outlives the broker it once took for the controller.

    KafkaAdminClient keeps that broker's id: what it had asked when the broker went ends with an
    error, and so does every further request, before anything is sent. Whoever uses it has to make
    another one and ask again, until the brokers have noticed.
    """

    GONE = (errors.UnknownBrokerIdError, errors.NodeNotReadyError, errors.KafkaConnectionError)

    def __init__(self):
        self.client = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)

    def __getattr__(self, name):
        def call(*arguments, **settings):
            for _ in range(20):
                try:
                    return getattr(self.client, name)(*arguments, **settings)
                except self.GONE:
                    time.sleep(0.2)
                    self.client = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
            return getattr(self.client, name)(*arguments, **settings)

        return call


admin = Admin()


def create_topic(partitions=1, configs=None):
    topic = unique("kafka-python")
    options = {
        "num_partitions": partitions,
        "replication_factor": REPLICATION_FACTOR,
        "configs": configs or {},
    }
    try:
        admin.create_topics({topic: options})
    except errors.TopicAlreadyExistsError:
        # Nobody else has this name: the broker that made it was gone before it could say so.
        expect(NODES > 1, True, "the topic was made before, by a single node")
    admin.wait_for_topics([topic])
    return topic


def producer(**settings):
    return KafkaProducer(**{"bootstrap_servers": BOOTSTRAP, "acks": "all", **settings})


def consumer(*topics, **settings):
    defaults = {
        "bootstrap_servers": BOOTSTRAP,
        "auto_offset_reset": "earliest",
        "consumer_timeout_ms": 15_000,
        "heartbeat_interval_ms": 300,
    }
    return KafkaConsumer(*topics, **{**defaults, **settings})


def produce_values(topic, values, partitions=1):
    with producer() as client:
        for number, value in enumerate(values):
            client.send(topic, value, partition=number % partitions)
        client.flush()


def read(client, count):
    records = []
    for record in client:
        records.append(record)
        if len(records) == count:
            return records
    raise AssertionError(f"read {len(records)} of {count} records")


@suite.parametrized(*((codec, idempotent) for codec in CODECS for idempotent in (False, True)))
def produce_and_consume(parameters):
    codec, idempotent = parameters
    topic, sent = create_topic(), sample_records(null_headers=False)
    compression = None if codec == "none" else codec
    settings = {"compression_type": compression, "enable_idempotence": idempotent, "linger_ms": 50}
    with producer(**settings) as client:
        futures = [
            client.send(
                topic, record.value, key=record.key, headers=record.headers,
                timestamp_ms=record.timestamp, partition=0,
            )
            for record in sent
        ]
        client.flush()
        offsets = [future.get(timeout=10).offset for future in futures]
    expect(offsets, list(range(len(sent))), "acknowledged offsets")
    with consumer() as client:
        client.assign([TopicPartition(topic, 0)])
        client.seek_to_beginning()
        received = [
            (r.offset, Record(r.key, r.value, list(r.headers), r.timestamp))
            for r in read(client, len(sent))
        ]
    compare(received, sent, codec)


@suite.parametrized(0, 1, "all")
def acknowledgement_settings(acks):
    topic = create_topic()
    with producer(acks=acks, enable_idempotence=False) as client:
        for number in range(50):
            client.send(topic, str(number).encode())
        client.flush()
    with consumer() as client:
        client.assign([TopicPartition(topic, 0)])
        values = [int(record.value) for record in read(client, 50)]
    expect(values, list(range(50)), "values in order")


@suite.check
def offsets_of_beginning_end_and_times():
    topic, sent = create_topic(), sample_records(null_headers=False)
    partition = TopicPartition(topic, 0)
    with producer() as client:
        for record in sent:
            client.send(topic, b"x", timestamp_ms=record.timestamp, partition=0).get(timeout=10)
    with consumer() as client:
        expect(client.beginning_offsets([partition]), {partition: 0}, "beginning")
        expect(client.end_offsets([partition]), {partition: len(sent)}, "end")
        latest = max(record.timestamp for record in sent)
        found = client.offsets_for_times({partition: latest - 1})[partition]
        expect((found.offset, found.timestamp), (5, latest), "first record at or after a time")
        nothing = client.offsets_for_times({partition: latest + 1})[partition]
        expect(nothing, None, "a time after every record")
    found = admin.list_partition_offsets({partition: OffsetSpec.MAX_TIMESTAMP})[partition]
    expect((found.offset, found.timestamp), (5, latest), "the record with the greatest timestamp")


class GroupClient:
    def __init__(self, topic, group, **settings):
        self.client = consumer(topic, group_id=group, auto_commit_interval_ms=200, **settings)

    def poll(self):
        # Seldom, because kafka-python 3.0 loses the assignment that comes in the very moment in
        # which a poll's time is over: it goes on as a member of the group that owns nothing.
        try:
            polled = self.client.poll(timeout_ms=2_000)
        except errors.KafkaConnectionError:
            # It tells its user when the broker that it wanted to ask is away.
            expect(NODES > 1, True, "the broker is away, and others serve")
            time.sleep(0.1)
            polled = {}
        return [Received(r.partition, r.offset, r.value) for rs in polled.values() for r in rs]

    def assignment(self):
        return {partition.partition for partition in self.client.assignment()}

    def close(self):
        self.client.close()


@suite.check
def group_with_two_members_and_one_leaving():
    topic, group = create_topic(4), unique("group")

    def described():
        listed = {g["group_id"]: g for g in admin.list_groups()}
        expect(listed[group]["protocol_type"], "consumer", "protocol type of the listed group")
        description = admin.describe_groups([group])[group]
        expect(description["group_state"], "Stable", "state of the described group")
        expect(len(description["members"]), 2, "members of the described group")
        expect(admin.delete_groups([group]), {group: "NonEmptyGroupError"}, "deleting it")

    two_members_and_one_leaves(
        lambda: GroupClient(topic, group),
        lambda values: produce_values(topic, values, 4), 4, described,
    )
    expect(admin.describe_groups([group])[group]["group_state"], "Empty", "state after all left")
    expect(admin.delete_groups([group]), {group: "OK"}, "deleting it empty")
    expect(admin.delete_groups([group]), {group: "GroupIdNotFoundError"}, "deleting it again")
    wait_until(lambda: group not in {g["group_id"] for g in admin.list_groups()}, "group is gone")


@suite.check
def commit_and_resume():
    topic, group = create_topic(), unique("group")
    partition = TopicPartition(topic, 0)
    produce_values(topic, [str(i).encode() for i in range(20)])
    with consumer(topic, group_id=group, enable_auto_commit=False) as client:
        read(client, 10)
        client.commit({partition: OffsetAndMetadata(10, "ten", -1)})
        expect(client.committed(partition), 10, "committed offset")
    with consumer(topic, group_id=group, enable_auto_commit=False) as client:
        expect([r.offset for r in read(client, 10)], list(range(10, 20)), "offsets after resuming")
    committed = admin.list_group_offsets({group: None})[group][partition]
    expect((committed.offset, committed.metadata), (10, "ten"), "listed group offset")
    admin.alter_group_offsets(group, {partition: OffsetAndMetadata(3, "", -1)})
    with consumer(topic, group_id=group, enable_auto_commit=False) as client:
        expect(read(client, 1)[0].offset, 3, "offset after it was altered")
    admin.delete_group_offsets(group, [partition])
    expect(admin.list_group_offsets({group: None})[group], {}, "offsets after deletion")


@suite.check
def an_administrator_removes_a_member():
    topic, group = create_topic(), unique("group")
    with consumer(topic, group_id=group) as client:
        wait_until(lambda: client.poll(timeout_ms=1_000) or client.assignment(), "assigned")
        member = admin.describe_groups([group])[group]["members"][0]["member_id"]
        removed = admin.remove_group_members(group, [MemberToRemove(member_id=member)])
        expect(removed, {member: errors.NoError}, "result of the removal")
        expect(admin.describe_groups([group])[group]["group_state"], "Empty", "state")


@suite.check
def topics_and_their_configs():
    topic = create_topic(3, {"retention.ms": "123456789"})
    expect(topic in admin.list_topics(), True, "the topic is listed")
    description = admin.describe_topics([topic])[0]
    expect(len(description["partitions"]), 3, "partitions of the topic")
    expect(description["is_internal"], False, "internal")
    resource = lambda configs: [ConfigResource(ConfigResourceType.TOPIC, topic, configs)]

    def value_of(key):
        answer = admin.describe_configs(resource(None), config_filter="all")
        return answer["topic"][topic][key]["value"]

    expect(value_of("retention.ms"), "123456789", "a config set at creation")
    expect(value_of("cleanup.policy"), "delete", "a default config")
    admin.alter_configs(resource({"retention.ms": "5000", "cleanup.policy": "compact"}))
    wait_until(lambda: value_of("retention.ms") == "5000", "an altered config is seen")
    expect(value_of("cleanup.policy"), "compact", "the other altered config")
    admin.alter_configs(resource({"retention.ms": (AlterConfigOp.DELETE, None)}))
    wait_until(lambda: value_of("retention.ms") == "604800000", "a deleted config is the default")
    answer = admin.alter_configs(resource({"retention.ms": "soon"}))["topic"][topic]
    expect("InvalidConfigurationError" in answer, True, f"a config that is no number: {answer}")
    admin.alter_configs(resource({"segment.ms": "7000000"}), incremental=False)
    wait_until(lambda: value_of("segment.ms") == "7000000", "a config altered the old way is seen")


@suite.check
def refused_topics():
    topic = create_topic()
    options = {"num_partitions": 1, "replication_factor": 1}
    refusals = [
        (topic, options, errors.TopicAlreadyExistsError),
        ("no spaces allowed", options, errors.InvalidTopicError),
        (unique("t"), {**options, "num_partitions": 0}, errors.InvalidPartitionsError),
        (unique("t"), {**options, "replication_factor": 9}, errors.InvalidReplicationFactorError),
        (unique("t"), {**options, "configs": {"retention.ms": "?"}},
         errors.InvalidConfigurationError),
    ]
    for name, given, error in refusals:
        try:
            admin.create_topics({name: given})
        except error:
            continue
        raise AssertionError(f"{name} with {given} was created")


@suite.check
def delete_records():
    topic = create_topic()
    partition = TopicPartition(topic, 0)
    produce_values(topic, [str(i).encode() for i in range(10)])
    deleted = admin.delete_records({partition: 4})
    expect(deleted[partition]["low_watermark"], 4, "low watermark")
    with consumer() as client:
        expect(client.beginning_offsets([partition]), {partition: 4}, "beginning")
        client.assign([partition])
        client.seek(partition, 1)
        records = read(client, 6)
    expect([r.offset for r in records], list(range(4, 10)), "offsets after an out-of-range seek")


@suite.check
def create_partitions():
    topic = create_topic(1)
    admin.create_partitions({topic: 3})
    count = lambda: len(admin.describe_topics([topic])[0]["partitions"])
    wait_until(lambda: count() == 3, "three partitions")
    admin.wait_for_topics([topic])
    with producer() as client:
        expect(client.send(topic, b"x", partition=2).get(timeout=10).offset, 0, "offset")
    try:
        admin.create_partitions({topic: 2})
        raise AssertionError("a topic lost partitions")
    except errors.InvalidPartitionsError:
        pass


@suite.check
def delete_topic():
    topic = create_topic()
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics(), "the topic is gone")
    try:
        admin.delete_topics([topic])
        raise AssertionError("an unknown topic was deleted")
    except errors.UnknownTopicOrPartitionError:
        pass


suite.run()
