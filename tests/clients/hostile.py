#!/usr/bin/env python3
"""Bad input over raw sockets, in plain Python, against the broker at BOOTSTRAP.

Every case ends with a new connection whose ApiVersions request must be answered within 2 s. With
BROKER_PID set, the broker's resident memory must not grow by more than 256 MiB over all of it,
which asks more than Apache Kafka gives. ONLY=text runs the cases whose names hold the text.
"""

import gzip
import os
import random
import socket
import struct
import sys
import time
import traceback
import uuid

HOST, PORT = os.environ["BOOTSTRAP"].rsplit(":", 1)
PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH = 0, 1, 2, 3, 8, 9
JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP, DESCRIBE_GROUPS, API_VERSIONS = 11, 13, 14, 15, 18
CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, OFFSET_FOR_LEADER_EPOCH = 19, 20, 21, 23
DESCRIBE_CONFIGS, ALTER_CONFIGS, CREATE_PARTITIONS, DELETE_GROUPS = 32, 33, 37, 42
INCREMENTAL_ALTER_CONFIGS, OFFSET_DELETE, DESCRIBE_TOPIC_PARTITIONS = 44, 47, 75
LIE = struct.pack(">i", 2**31 - 1)
COMPACT_LIE = b"\xff\xff\xff\xff\x07"  # the unsigned varint of 2^31 - 1
CLOSED = "closed"

CASES = []


def case(function):
    CASES.append((function.__name__.replace("_", " "), function))
    return function


def connect():
    stream = socket.create_connection((HOST, int(PORT)), 2)
    stream.settimeout(5)
    return stream


def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise ConnectionResetError(f"the connection ended after {len(data)} of {count} bytes")
        data += part
    return data


def read_frame(stream):
    (length,) = struct.unpack(">i", read_exactly(stream, 4))
    assert 4 <= length <= 1 << 20, f"an answer of {length} bytes"
    return read_exactly(stream, length)


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def frame(body):
    return struct.pack(">i", len(body)) + body


def header(api, version, correlation=7):
    return struct.pack(">hhi", api, version, correlation) + string("hostile")


def request(api, version, body, correlation=7):
    return frame(header(api, version, correlation) + body)


def ask(api, version, body):
    """The body of the answer to a request with a version-1 header."""
    with connect() as stream:
        stream.sendall(request(api, version, body))
        answer = read_frame(stream)
    assert answer[:4] == struct.pack(">i", 7), "the correlation id of the answer"
    return answer[4:]


def outcome(data):
    """What the broker makes of some bytes: an answer (its frame) or CLOSED. Neither within 5 s is a
    hang, and fails."""
    with connect() as stream:
        try:
            stream.sendall(data)
            return read_frame(stream)
        except (ConnectionResetError, BrokenPipeError):
            return CLOSED
        except TimeoutError:
            raise AssertionError("neither an answer nor an end of the connection in 5 s") from None


def assert_closed(data, what):
    answer = outcome(data)
    assert answer == CLOSED, f"{what}: expected the end of the connection, got {answer[:40]!r}"


def assert_alive():
    started = time.monotonic()
    answer = ask(API_VERSIONS, 0, b"")
    took = time.monotonic() - started
    (error,) = struct.unpack_from(">h", answer)
    assert error == 0, f"ApiVersions answers error {error}"
    assert took < 2, f"ApiVersions took {took:.1f} s"


def create_topic(configs=()):
    name = f"hostile-{uuid.uuid4().hex[:12]}"
    pairs = b"".join(string(key) + string(value) for key, value in configs)
    topic = string(name) + struct.pack(">ihii", 1, 1, 0, len(configs)) + pairs
    answer = ask(CREATE_TOPICS, 2, struct.pack(">i", 1) + topic + struct.pack(">i?", 10_000, False))
    (error,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name))
    assert error == 0, f"CreateTopics answers error {error}"
    deadline = time.monotonic() + 10
    while end_offset(name) is None:
        assert time.monotonic() < deadline, "the new topic got no leader"
        time.sleep(0.05)
    return name


def end_offset(topic):
    body = struct.pack(">iBi", -1, 0, 1) + string(topic) + struct.pack(">iiq", 1, 0, -1)
    answer = ask(LIST_OFFSETS, 2, body)
    error, _, offset = struct.unpack_from(">hqq", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    return offset if error == 0 else None


CRC_TABLE = []
for value in range(256):
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    CRC_TABLE.append(value)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = number << 1 ^ number >> 63
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def record(value, offset_delta=0):
    body = b"\0" + varint(0) + varint(offset_delta) + varint(-1) + varint(len(value)) + value
    body += varint(0)
    return varint(len(body)) + body


def batch(records=None, count=1, last_offset_delta=None, attributes=0, crc=None, magic=2,
          length=None, producer=(-1, -1, -1)):
    records = record(b"value") if records is None else records
    delta = count - 1 if last_offset_delta is None else last_offset_delta
    now = int(time.time() * 1000)
    covered = struct.pack(">hiqqqhii", attributes, delta, now, now, *producer, count) + records
    crc = crc32c(covered) if crc is None else crc
    rest = struct.pack(">ibI", 0, magic, crc) + covered
    return struct.pack(">qi", 0, len(rest) if length is None else length) + rest


def produce_request(topic, records, acks=-1, partition=0, version=7):
    sized = struct.pack(">i", -1) if records is None else frame(records)
    body = struct.pack(">hhii", -1, acks, 1_000, 1) + string(topic)
    return request(PRODUCE, version, body + struct.pack(">ii", 1, partition) + sized)


def produce(topic, records, **settings):
    """The error code of the partition, or CLOSED."""
    answer = outcome(produce_request(topic, records, **settings))
    if answer == CLOSED:
        return CLOSED
    # correlation id, one topic, its name, one partition, its index
    (error,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
    return error


# Frames.


@case
def lengths_over_100_mib():
    for length in (100 * 1024 * 1024 + 1, 2**30, 2**31 - 1):
        assert_closed(struct.pack(">i", length) + header(API_VERSIONS, 0), f"length {length}")


@case
def negative_lengths():
    for length in (-1, -4, -(2**31)):
        assert_closed(struct.pack(">i", length) + header(API_VERSIONS, 0), f"length {length}")


@case
def frames_too_short_for_a_header():
    for size in range(8):
        assert_closed(frame(bytes(size)), f"a frame of {size} bytes")


@case
def a_length_of_100_mib_alone_takes_no_memory():
    # Apache Kafka allocates what the length claims, and 20 such claims end it with a heap of 512 MiB;
    # so many are made only where memory is watched.
    streams = []
    for _ in range(20 if "BROKER_PID" in os.environ else 1):
        stream = connect()
        stream.sendall(struct.pack(">i", 100 * 1024 * 1024) + header(API_VERSIONS, 0))
        streams.append(stream)
    time.sleep(0.3)
    assert_alive()
    for stream in streams:
        stream.close()


@case
def truncated_frames_then_close():
    whole = request(METADATA, 1, struct.pack(">i", -1))
    for size in range(1, len(whole)):
        with connect() as stream:
            stream.sendall(whole[:size])


@case
def a_reset_with_unread_answers():
    for _ in range(20):
        stream = connect()
        stream.sendall(request(METADATA, 1, struct.pack(">i", -1)) * 50)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()


@case
def a_request_sent_byte_by_byte():
    with connect() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(API_VERSIONS, 0, b""):
            stream.sendall(bytes([byte]))
            time.sleep(0.005)
        assert read_frame(stream)[:6] == struct.pack(">ih", 7, 0)


@case
def pipelined_requests_are_answered_in_order():
    with connect() as stream:
        kinds = [(API_VERSIONS, b""), (METADATA, struct.pack(">i", 0))]
        stream.sendall(b"".join(
            request(kinds[n % 2][0], n % 2, kinds[n % 2][1], correlation=n) for n in range(100)
        ))
        answered = [struct.unpack(">i", read_frame(stream)[:4])[0] for _ in range(100)]
    assert answered == list(range(100)), f"answered {answered}"


@case
def many_idle_half_sent_connections():
    streams = []
    for _ in range(200):
        stream = connect()
        stream.sendall(b"\0\0\0")
        streams.append(stream)
    assert_alive()
    for stream in streams:
        stream.close()


# Headers.


@case
def unknown_api_keys():
    for key in (-1, 200, 999, 2**15 - 1, -(2**15)):
        assert_closed(request(key, 0, b""), f"API key {key}")


@case
def api_versions_of_an_unknown_version_answers_version_0_and_error_35():
    for version in (99, 2**15 - 1):
        # The flexible header and body of a version not known yet, as a newer client sends them.
        answer = outcome(request(API_VERSIONS, version, b"\0\x08hostile\x021\0"))
        assert answer != CLOSED, "the connection was closed"
        correlation, error, count = struct.unpack_from(">ihi", answer)
        assert (correlation, error) == (7, 35), f"correlation id and error {correlation}, {error}"
        assert len(answer) == 10 + 6 * count, f"{count} keys in {len(answer)} bytes"
        keys = {row[0]: row[1:] for row in struct.iter_unpack(">hhh", answer[10:])}
        assert keys.get(API_VERSIONS, (9, 0))[1] >= 3, f"the range of ApiVersions in {keys}"


@case
def after_error_35_the_same_connection_serves_version_0():
    with connect() as stream:
        stream.sendall(request(API_VERSIONS, 99, b"\0"))
        assert struct.unpack_from(">h", read_frame(stream), 4) == (35,)
        stream.sendall(request(API_VERSIONS, 0, b"", correlation=8))
        assert struct.unpack_from(">ih", read_frame(stream)) == (8, 0)


@case
def unknown_versions_of_other_apis():
    for api in (PRODUCE, FETCH, LIST_OFFSETS, METADATA, JOIN_GROUP, CREATE_TOPICS):
        for version in (99, -1):
            assert_closed(request(api, version, bytes(40)), f"API {api} version {version}")


@case
def client_ids_that_lie():
    start = struct.pack(">hhi", METADATA, 1, 7)
    for length in (2**15 - 1, -2, -(2**15)):
        assert_closed(frame(start + struct.pack(">h", length) + b"abc"), f"client id of {length}")
    null = frame(start + struct.pack(">hi", -1, 0))
    assert outcome(null) != CLOSED, "a null client id is valid"


# Bodies whose lengths lie: they must cost no memory and end in an error or a closed connection.

NAME = string("t")
COMPACT_NAME = b"\x02t"
LYING = {
    "Produce v3 topics": (PRODUCE, 3, struct.pack(">hhi", -1, 1, 1000) + LIE),
    "Produce v3 partitions": (PRODUCE, 3, struct.pack(">hhii", -1, 1, 1000, 1) + NAME + LIE),
    "Produce v3 records": (
        PRODUCE, 3, struct.pack(">hhii", -1, 1, 1000, 1) + NAME + struct.pack(">ii", 1, 0) + LIE),
    "Produce v9 topics": (PRODUCE, 9, b"\0\0" + struct.pack(">hi", 1, 1000) + COMPACT_LIE),
    "Produce v9 tagged fields": (
        PRODUCE, 9, b"\0\0" + struct.pack(">hi", 1, 1000) + b"\x01" + COMPACT_LIE),
    "Fetch v4 topics": (FETCH, 4, struct.pack(">iiiib", -1, 100, 1, 1000, 0) + LIE),
    "Fetch v12 topics": (
        FETCH, 12, b"\0" + struct.pack(">iiiibii", -1, 100, 1, 1000, 0, 0, -1) + COMPACT_LIE),
    "ListOffsets v1": (LIST_OFFSETS, 1, struct.pack(">i", -1) + LIE),
    "ListOffsets v6": (LIST_OFFSETS, 6, b"\0" + struct.pack(">ib", -1, 0) + COMPACT_LIE),
    "Metadata v1": (METADATA, 1, LIE),
    "Metadata v12": (METADATA, 12, b"\0" + COMPACT_LIE),
    "Metadata v12 name": (METADATA, 12, b"\0\x02" + bytes(16) + COMPACT_LIE),
    "OffsetCommit v2": (
        OFFSET_COMMIT, 2, NAME + struct.pack(">i", -1) + string("") + struct.pack(">q", -1) + LIE),
    "OffsetCommit v8": (
        OFFSET_COMMIT, 8, b"\0" + COMPACT_NAME + struct.pack(">i", -1) + b"\x01\0" + COMPACT_LIE),
    "OffsetFetch v1": (OFFSET_FETCH, 1, NAME + LIE),
    "OffsetFetch v8": (OFFSET_FETCH, 8, b"\0" + COMPACT_LIE),
    "JoinGroup v5": (
        JOIN_GROUP, 5,
        NAME + struct.pack(">ii", 9000, 9000) + string("") + b"\xff\xff" + string("c") + LIE),
    "JoinGroup v5 metadata": (
        JOIN_GROUP, 5,
        NAME + struct.pack(">ii", 9000, 9000) + string("") + b"\xff\xff" + string("c")
        + struct.pack(">i", 1) + string("range") + LIE),
    "SyncGroup v3": (SYNC_GROUP, 3, NAME + struct.pack(">i", 1) + NAME + b"\xff\xff" + LIE),
    "LeaveGroup v4": (LEAVE_GROUP, 4, b"\0" + COMPACT_NAME + COMPACT_LIE),
    "DescribeGroups v0": (DESCRIBE_GROUPS, 0, LIE),
    "DeleteGroups v0": (DELETE_GROUPS, 0, LIE),
    "OffsetDelete v0": (OFFSET_DELETE, 0, NAME + LIE),
    "CreateTopics v2": (CREATE_TOPICS, 2, LIE),
    "CreateTopics v2 assignments": (
        CREATE_TOPICS, 2, struct.pack(">i", 1) + NAME + struct.pack(">ih", 1, 1) + LIE),
    "CreateTopics v5": (CREATE_TOPICS, 5, b"\0" + COMPACT_LIE),
    "DeleteTopics v1": (DELETE_TOPICS, 1, LIE),
    "DeleteRecords v0": (DELETE_RECORDS, 0, LIE),
    "CreatePartitions v0": (CREATE_PARTITIONS, 0, LIE),
    "DescribeConfigs v1": (DESCRIBE_CONFIGS, 1, LIE),
    "DescribeConfigs v1 keys": (
        DESCRIBE_CONFIGS, 1, struct.pack(">ib", 1, 2) + NAME + LIE),
    "AlterConfigs v0": (ALTER_CONFIGS, 0, LIE),
    "IncrementalAlterConfigs v0": (INCREMENTAL_ALTER_CONFIGS, 0, LIE),
    "OffsetForLeaderEpoch v2": (OFFSET_FOR_LEADER_EPOCH, 2, LIE),
    "DescribeTopicPartitions v0": (DESCRIBE_TOPIC_PARTITIONS, 0, b"\0" + COMPACT_LIE),
    "ApiVersions v3 name": (API_VERSIONS, 3, b"\0" + COMPACT_LIE),
}


def lying(name):
    api, version, body = LYING[name]
    # Enough bytes after the lie that the frame has some 70 bytes.
    body += bytes(max(0, 70 - len(body) - len(header(api, version))))
    answer = outcome(request(api, version, body))
    assert answer == CLOSED or len(answer) < 4_096, f"an answer of {len(answer)} bytes"


for name in LYING:
    CASES.append((f"a lying length: {name}", lambda name=name: lying(name)))


@case
def every_api_and_version_filled_with_lies():
    for filling in (LIE * 16, COMPACT_LIE * 13, b"\xff" * 64, bytes(64), b"\x80" * 64):
        for api in range(93):
            if api == 64:
                continue  # UnregisterBroker: zeros are a valid request to remove broker 0
            with connect() as stream:
                stream.settimeout(0.02)
                for version in range(0, 16, 1 if api < 50 else 4):
                    try:
                        stream.sendall(request(api, version, filling))
                    except (ConnectionResetError, BrokenPipeError):
                        stream.close()
                        stream = connect()
        assert_alive()


@case
def random_bytes_and_other_protocols():
    draw = random.Random(20_001)
    for size in (1, 3, 5, 17, 64, 300, 5_000):
        for _ in range(10):
            with connect() as stream:
                try:
                    stream.sendall(draw.randbytes(size))
                except (ConnectionResetError, BrokenPipeError):
                    pass
    assert_closed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "an HTTP request")
    assert_closed(bytes.fromhex("16030100a5010000a10303") + bytes(160), "a TLS hello")
    for _ in range(200):
        body = header(draw.choice([0, 1, 2, 3, 8, 9, 11, 14, 18, 19, 32]), draw.randrange(10))
        with connect() as stream:
            try:
                stream.sendall(frame(body + draw.randbytes(draw.randrange(200))))
            except (ConnectionResetError, BrokenPipeError):
                pass


# Record batches.


def expect_refused(batches, codes):
    topic = create_topic()
    wrong = []
    for what, records in batches.items():
        error = produce(topic, records)
        if error not in codes[what]:
            wrong.append(f"{what}: error {error}, not one of {codes[what]}")
    assert not wrong, "; ".join(wrong)
    assert end_offset(topic) == 0, "something was appended"
    assert produce(topic, batch()) == 0, "a good batch is refused afterwards"
    assert end_offset(topic) == 1, "the good batch was not appended"


@case
def record_batches_that_are_wrong():
    corrupt, invalid = (2,), (2, 87)
    # Where unpacking or reading fails, Apache Kafka answers UNKNOWN_SERVER_ERROR.
    unreadable = (-1, 2, 87)
    good = batch()
    batches = {
        "a wrong checksum": (batch(crc=1), corrupt),
        "a flipped bit": (good[:-2] + bytes([good[-2] ^ 1]) + good[-1:], corrupt),
        "a truncated batch": (good[:-3], (2, 87, CLOSED)),
        "half a batch header": (good[:30], (2, 87, CLOSED)),
        "a batch length of 2^31 - 1": (batch(length=2**31 - 1), (-1, 2, 87, CLOSED)),
        "a negative batch length": (batch(length=-5), (2, 87, CLOSED)),
        "a batch length of zero": (batch(length=0), (2, 87, CLOSED)),
        "a count of 2^31 - 1": (batch(count=2**31 - 1, last_offset_delta=0), invalid),
        "a negative count": (batch(count=-1, last_offset_delta=0), invalid),
        "a count that does not fit the last offset": (batch(count=1, last_offset_delta=5), invalid),
        "a record whose length lies": (batch(varint(2**30) + record(b"x")[1:]), invalid),
        "a record with a negative length": (batch(varint(-7) + record(b"x")[1:]), invalid),
        "bytes after the last record": (batch(record(b"x") + b"junk"), invalid),
        "packed records whose offsets do not count up": (
            batch(gzip.compress(record(b"x", 0) + record(b"y", 7)), count=2, attributes=1),
            unreadable),
        "gzip that is none": (batch(b"\x1f\x8b not gzip", attributes=1), unreadable),
        "snappy that is none": (batch(b"\xff not snappy", attributes=2), unreadable),
        "lz4 that is none": (batch(b"\x04\x22\x4d\x18 not lz4", attributes=3), unreadable),
        "zstd that is none": (batch(b"\x28\xb5\x2f\xfd not zstd", attributes=4), unreadable),
        "a codec nobody knows": (batch(attributes=7), (2, 87, -1, 76, CLOSED)),
        "magic 0": (batch(magic=0), (2, 43, 87)),
        "magic 1": (batch(magic=1), (2, 43, 87)),
        "magic 9": (batch(magic=9), (2, 43, 87, 35)),
        "two batches in one request": (good + good, (87,)),
        "a control batch from a client": (batch(attributes=0x20), (87,)),
    }
    expect_refused(
        {what: records for what, (records, _) in batches.items()},
        {what: codes for what, (_, codes) in batches.items()},
    )


@case
def absent_and_empty_records():
    topic = create_topic()
    assert produce(topic, b"") == 87, "expected INVALID_RECORD for empty records"
    # Apache Kafka never answers null records.
    with connect() as stream:
        stream.sendall(produce_request(topic, None))
        time.sleep(0.3)
    assert end_offset(topic) == 0, "something was appended"


@case
def zstd_in_a_version_that_does_not_know_it():
    topic = create_topic()
    error = produce(topic, batch(attributes=4), version=3)
    assert error == 76, f"expected UNSUPPORTED_COMPRESSION_TYPE, got {error}"


@case
def a_small_batch_that_expands_to_a_large_one():
    topic = create_topic()
    value = bytes(64 * 1024 * 1024)
    packed = gzip.compress(record(value), 9)
    error = produce(topic, batch(packed, attributes=1))
    assert error in (0, 2, 10, 87), f"error {error}"


@case
def a_null_key_on_a_compacted_topic():
    topic = create_topic([("cleanup.policy", "compact")])
    assert produce(topic, batch()) == 87, "expected INVALID_RECORD"


@case
def a_batch_over_max_message_bytes():
    topic = create_topic([("max.message.bytes", "500")])
    assert produce(topic, batch(record(bytes(600)))) == 10, "expected MESSAGE_TOO_LARGE"
    assert produce(topic, batch(record(bytes(300)))) == 0, "a smaller one is accepted"


@case
def produce_requests_that_are_wrong():
    topic = create_topic()
    assert produce(f"none-{uuid.uuid4().hex}", batch()) == 3, "an unknown topic"
    assert produce(topic, batch(), partition=9) == 3, "an unknown partition"
    assert produce(topic, batch(), partition=-1) in (3, CLOSED), "a negative partition"
    assert produce(topic, batch(), acks=5) == 21, "acks of 5"
    assert produce(topic, batch(producer=(-1, -1, 5))) in (0, 87), "a sequence without an id"
    sequence = produce(topic, batch(producer=(123_456_789, 0, 5)))
    assert sequence in (0, 45, 59), f"an unknown producer id: error {sequence}"


@case
def acks_0_with_a_bad_batch_ends_the_connection_or_is_ignored():
    topic = create_topic()
    with connect() as stream:
        stream.sendall(produce_request(topic, batch(crc=1), acks=0))
        try:
            stream.sendall(request(API_VERSIONS, 0, b"", correlation=8))
            assert read_frame(stream)[:4] == struct.pack(">i", 8), "an answer to acks=0"
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert end_offset(topic) == 0, "the bad batch was appended"


def resident_bytes(process):
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main():
    process = os.environ.get("BROKER_PID")
    only = os.environ.get("ONLY", "")
    assert_alive()
    before = resident_bytes(process) if process else 0
    failed = 0
    cases = [(name, function) for name, function in CASES if only in name]
    for name, function in cases:
        started = time.monotonic()
        try:
            function()
            assert_alive()
            print(f"ok hostile: {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:  # anything a case dies of is its failure
            failed += 1
            print(f"FAIL hostile: {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
    if process:
        grown = (resident_bytes(process) - before) >> 20
        within = grown < 256
        failed += not within
        print(f"{'ok' if within else 'FAIL'} hostile: memory: grew by {grown} MiB", flush=True)
    print(f"hostile: {failed} of {len(cases)} cases failed", flush=True)
    sys.exit(1 if failed else 0)


main()
