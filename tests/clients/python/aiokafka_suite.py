"""aiokafka against the broker at BOOTSTRAP."""

import asyncio

from aiokafka import (
    AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition,
    errors,
)
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from checks import (
    BOOTSTRAP, CODECS, NODES, REPLICATION_FACTOR, NotInTime, Received, Record, Suite, compare, expect,
    sample_records, two_members_and_one_leaves, unique, wait_until,
)

suite = Suite("aiokafka")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 40))


def asynchronous(function):
    """Lets a coroutine function be a check."""

    def check(*arguments):
        run(function(*arguments))

    check.__name__ = function.__name__
    return check


# A broker is away, or went while it was asked, or has just taken groups over from one that did.
MOVING = (
    errors.KafkaConnectionError, errors.NodeNotReadyError, errors.GroupLoadInProgressError,
    errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError,
)


class Admin:
    """`async with Admin() as admin`.

    When the broker that was asked goes, or its groups move, AIOKafkaAdminClient leaves it to its
    user to ask again, and to find that the first time was heard.
    """

    async def __aenter__(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        await self.client.start()
        return self

    def __getattr__(self, name):
        async def call(*arguments, **settings):
            for _ in range(20):
                try:
                    return await getattr(self.client, name)(*arguments, **settings)
                except MOVING:
                    await asyncio.sleep(0.2)
            return await getattr(self.client, name)(*arguments, **settings)

        return call

    async def __aexit__(self, *_):
        await self.client.close()


async def eventually(condition, what, limit=20):
    for _ in range(limit * 20):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise NotInTime(f"not within {limit} s: {what}")


async def create_topic(partitions=1, configs=None):
    topic = unique("aiokafka")
    async with Admin() as admin:
        new = NewTopic(topic, partitions, REPLICATION_FACTOR, topic_configs=configs)
        answer = await admin.create_topics([new])
        codes = [error[1] for error in answer.topic_errors]
        if NODES == 1 or codes != [errors.TopicAlreadyExistsError.errno]:
            expect(codes, [0], f"creating: {answer}")

        async def led():
            (found,) = await admin.describe_topics([topic])
            leaders = [partition["leader"] for partition in found["partitions"]]
            return len(leaders) == partitions and all(leader >= 0 for leader in leaders)

        await eventually(led, "every partition of the new topic has a leader")
    return topic


def producer(**settings):
    return AIOKafkaProducer(**{"bootstrap_servers": BOOTSTRAP, "acks": "all", **settings})


def consumer(*topics, **settings):
    defaults = {
        "bootstrap_servers": BOOTSTRAP,
        "auto_offset_reset": "earliest",
        "heartbeat_interval_ms": 300,
    }
    return AIOKafkaConsumer(*topics, **{**defaults, **settings})


async def produce_values(topic, values, partitions=1):
    async with producer() as client:
        for number, value in enumerate(values):
            await client.send(topic, value, partition=number % partitions)


async def read(client, count):
    return [await asyncio.wait_for(client.getone(), 10) for _ in range(count)]


async def read_partition(topic, count, offset=0):
    client = consumer()
    partition = TopicPartition(topic, 0)
    async with client:
        client.assign([partition])
        client.seek(partition, offset)
        return await read(client, count)


@suite.parametrized(*((codec, idempotent) for codec in CODECS for idempotent in (False, True)))
@asynchronous
async def produce_and_consume(parameters):
    codec, idempotent = parameters
    topic, sent = await create_topic(), sample_records(null_headers=False)
    compression = None if codec == "none" else codec
    settings = {"compression_type": compression, "enable_idempotence": idempotent, "linger_ms": 50}
    async with producer(**settings) as client:
        futures = [
            await client.send(
                topic, record.value, key=record.key, headers=record.headers,
                timestamp_ms=record.timestamp, partition=0,
            )
            for record in sent
        ]
        offsets = [(await future).offset for future in futures]
    if idempotent or NODES == 1:
        expect(offsets, list(range(len(sent))), "acknowledged offsets")
    # Without idempotence what was sent again may be there twice, when a leader went before it
    # could answer: the copies that count are those that were acknowledged.
    read_all = await read_partition(topic, offsets[-1] + 1)
    kept = [r for r in read_all if r.offset in offsets]
    received = [
        (offsets.index(r.offset), Record(r.key, r.value, list(r.headers), r.timestamp))
        for r in kept
    ]
    compare(received, sent, codec)


@suite.check
@asynchronous
async def offsets_of_beginning_end_and_times():
    topic, sent = await create_topic(), sample_records()
    partition = TopicPartition(topic, 0)
    async with producer() as client:
        for record in sent:
            await client.send_and_wait(topic, b"x", timestamp_ms=record.timestamp)
    latest = max(record.timestamp for record in sent)
    async with consumer() as client:
        expect(await client.beginning_offsets([partition]), {partition: 0}, "beginning")
        expect(await client.end_offsets([partition]), {partition: len(sent)}, "end")
        found = (await client.offsets_for_times({partition: latest - 1}))[partition]
        expect((found.offset, found.timestamp), (5, latest), "first record at or after a time")
        nothing = (await client.offsets_for_times({partition: latest + 1}))[partition]
        expect(nothing, None, "a time after every record")


class GroupClient:
    """aiokafka on an event loop of the member's thread."""

    def __init__(self, topic, group):
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.open(topic, group))

    async def open(self, topic, group):
        self.client = consumer(topic, group_id=group, auto_commit_interval_ms=200)
        await self.client.start()

    def poll(self):
        polled = self.loop.run_until_complete(self.client.getmany(timeout_ms=100))
        return [Received(r.partition, r.offset, r.value) for rs in polled.values() for r in rs]

    def assignment(self):
        return {partition.partition for partition in self.client.assignment()}

    def close(self):
        self.loop.run_until_complete(self.client.stop())
        self.loop.close()


@suite.check
def group_with_two_members_and_one_leaving():
    topic, group = run(create_topic(4)), unique("group")

    async def described():
        async with Admin() as admin:
            listed = dict(await admin.list_consumer_groups())
            expect(listed.get(group), "consumer", "protocol type of the listed group")
            for _ in range(20):
                (answer,) = await admin.describe_consumer_groups([group])
                error, found, state, _, _, members = answer.groups[0][:6]
                if not isinstance(errors.for_code(error)(), MOVING):
                    break
                await asyncio.sleep(0.2)
            expect((error, found, state), (0, group, "Stable"), "described group")
            expect(len(members), 2, "described members")

    two_members_and_one_leaves(
        lambda: GroupClient(topic, group),
        lambda values: run(produce_values(topic, values, 4)), 4, lambda: run(described()),
    )


@suite.check
@asynchronous
async def commit_and_resume():
    topic, group = await create_topic(), unique("group")
    partition = TopicPartition(topic, 0)
    await produce_values(topic, [str(i).encode() for i in range(20)])
    async with consumer(topic, group_id=group, enable_auto_commit=False) as client:
        await read(client, 10)
        await client.commit({partition: OffsetAndMetadata(10, "ten")})
        expect(await client.committed(partition), 10, "committed offset")
    async with consumer(topic, group_id=group, enable_auto_commit=False) as client:
        offsets = [record.offset for record in await read(client, 10)]
        expect(offsets, list(range(10, 20)), "offsets after resuming")
    async with Admin() as admin:
        listed = await admin.list_consumer_group_offsets(group)
    expect({p: (o.offset, o.metadata) for p, o in listed.items()}, {partition: (10, "ten")},
           "listed group offsets")


@suite.check
@asynchronous
async def a_static_member_keeps_its_partitions():
    topic, group = await create_topic(2), unique("group")

    class Listener(ConsumerRebalanceListener):
        assigned = None

        async def on_partitions_revoked(self, revoked):
            pass

        async def on_partitions_assigned(self, assigned):
            self.assigned = assigned

    for _ in range(2):
        listener = Listener()
        client = consumer(group_id=group, group_instance_id="static")
        client.subscribe([topic], listener=listener)
        async with client:
            async def owned():
                return listener.assigned

            await eventually(owned, "the member owns partitions")
            expect(len(listener.assigned), 2, "partitions owned")
            async with Admin() as admin:
                (answer,) = await admin.describe_consumer_groups([group])
            expect(len(answer.groups[0][5]), 1, "members: a static member replaces itself")


@suite.check
@asynchronous
async def topics_and_their_configs():
    topic = await create_topic(3, {"retention.ms": "123456789"})
    async with Admin() as admin:
        expect(topic in await admin.list_topics(), True, "the topic is listed")

        async def value_of(key):
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            (answer,) = await admin.describe_configs([resource])
            return {entry[0]: entry[1] for entry in answer.resources[0][4]}[key]

        expect(await value_of("retention.ms"), "123456789", "a config set at creation")
        expect(await value_of("cleanup.policy"), "delete", "a default config")
        change = ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "5000"})
        await admin.alter_configs([change])

        async def altered():
            return await value_of("retention.ms") == "5000"

        await eventually(altered, "an altered config is seen")


@suite.check
@asynchronous
async def delete_records():
    topic = await create_topic()
    partition = TopicPartition(topic, 0)
    await produce_values(topic, [str(i).encode() for i in range(10)])
    async with Admin() as admin:
        deleted = await admin.delete_records({partition: RecordsToDelete(before_offset=4)})
    expect(deleted, {partition: 4}, "low watermark")
    offsets = [record.offset for record in await read_partition(topic, 6, 1)]
    expect(offsets, list(range(4, 10)), "offsets after an out-of-range seek")


@suite.check
@asynchronous
async def create_partitions():
    topic = await create_topic()
    async with Admin() as admin:
        answer = await admin.create_partitions({topic: NewPartitions(3)})
        expect([error[1] for error in answer.topic_errors], [0], f"creating: {answer}")

        async def three():
            (found,) = await admin.describe_topics([topic])
            return len(found["partitions"]) == 3

        await eventually(three, "three partitions")
    async with producer() as client:
        expect((await client.send_and_wait(topic, b"x", partition=2)).offset, 0, "offset")


@suite.check
@asynchronous
async def delete_topic():
    topic = await create_topic()
    async with Admin() as admin:
        answer = await admin.delete_topics([topic])
        expect([error[1] for error in answer.topic_error_codes], [0], f"deleting: {answer}")

        async def gone():
            return topic not in await admin.list_topics()

        await eventually(gone, "the topic is gone")


suite.run()
