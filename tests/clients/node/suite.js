// kafkajs against the broker at BOOTSTRAP, one of NODES (1), with REPLICATION_FACTOR (1). Prints "ok NAME" or "FAIL NAME: why"; exits 0 or 1.
// ONLY=text runs the checks whose names hold the text.
'use strict'

const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const {
  CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel,
} = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const replicationFactor = Number(process.env.REPLICATION_FACTOR ?? 1)
const CHECK_LIMIT = 45_000
const kafka = new Kafka({
  clientId: 'klamm-clients',
  brokers: [process.env.BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 8 },
})
const admin = kafka.admin()
const checks = []
const check = (name, run) => checks.push({ name, run })
const unique = (name) => `${name}-${randomBytes(6).toString('hex')}`
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))

async function eventually (what, condition, limit = 20_000) {
  const deadline = Date.now() + limit
  for (;;) {
    const result = await condition()
    if (result) return result
    assert(Date.now() < deadline, `not within ${limit / 1000} s: ${what}`)
    await sleep(50)
  }
}

async function createTopic (numPartitions = 1, configEntries = []) {
  const topic = unique('kafkajs')
  await admin.createTopics({
    waitForLeaders: true,
    topics: [{ topic, numPartitions, replicationFactor, configEntries }],
  })
  return topic
}

async function withProducer (settings, use) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...settings })
  await producer.connect()
  try {
    return await use(producer)
  } finally {
    await producer.disconnect()
  }
}

const produceValues = (topic, values, partitions = 1) => withProducer({}, (producer) =>
  producer.send({
    topic,
    acks: -1,
    messages: values.map((value, n) => ({ value, partition: n % partitions })),
  }))

// A group member that keeps what it reads and what it owns.
async function startMember (groupId, topic, settings = {}) {
  const consumer = kafka.consumer({
    groupId, heartbeatInterval: 300, sessionTimeout: 10_000, rebalanceTimeout: 10_000,
    maxWaitTimeInMs: 100, allowAutoTopicCreation: false, ...settings,
  })
  const member = { consumer, received: [], owned: [], left: false }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.owned = payload.memberAssignment[topic] ?? []
  })
  consumer.on(consumer.events.REBALANCING, () => { member.owned = [] })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommitInterval: 200,
    eachMessage: async ({ partition, message }) => { member.received.push({ partition, ...message }) },
  })
  member.leave = async () => {
    if (member.left) return
    member.left = true
    member.owned = []
    await consumer.disconnect()
  }
  return member
}

async function readAll (topic, count) {
  const member = await startMember(unique('reader'), topic)
  try {
    await eventually(`${count} records`, () => member.received.length >= count)
    return member.received
  } finally {
    await member.leave()
  }
}

const plain = (headers) => Object.fromEntries(Object.entries(headers ?? {}).map(([key, value]) =>
  [key, Array.isArray(value) ? value.map(String) : String(value)]))

const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
}
for (const [codec, compression] of Object.entries(CODECS)) {
  for (const idempotent of [false, true]) {
    check(`produce and consume [${codec}, idempotent ${idempotent}]`, async () => {
      const topic = await createTopic()
      const now = Date.now() - 60_000
      const messages = [
        { key: 'key', value: 'value', headers: { header: '1' }, timestamp: `${now}` },
        { key: null, value: 'no key', headers: {}, timestamp: `${now + 5}` },
        { key: 'tombstone', value: null, headers: {}, timestamp: `${now + 3}` },
        { key: 'größe', value: '✓', headers: { twice: ['a', 'b'] }, timestamp: `${now + 1000}` },
        { key: 'large', value: '0123456789abcdef'.repeat(8192), headers: {}, timestamp: `${now}` },
      ]
      const settings = idempotent ? { idempotent, maxInFlightRequests: 1 } : {}
      const [sent] = await withProducer(settings, (producer) =>
        producer.send({ topic, acks: -1, compression, messages }))
      assert.equal(sent.errorCode, 0)
      assert.equal(sent.baseOffset, '0')
      const received = await readAll(topic, messages.length)
      assert.deepEqual(
        received.map(({ key, value, headers, timestamp, offset }) => ({
          key: key && String(key), value: value && String(value), headers: plain(headers),
          timestamp, offset,
        })),
        messages.map((message, offset) => ({ ...message, offset: `${offset}` })),
      )
    })
  }
}

check('group with two members and one leaving', async () => {
  const topic = await createTopic(4)
  const groupId = unique('group')
  const first = await startMember(groupId, topic)
  const second = await startMember(groupId, topic)
  try {
    await eventually('two members share the partitions', () =>
      first.owned.length > 0 && second.owned.length > 0 &&
      String([...first.owned, ...second.owned].sort()) === '0,1,2,3')
    const { groups: [described] } = await admin.describeGroups([groupId])
    assert.equal(described.state, 'Stable')
    assert.equal(described.members.length, 2)
    const { groups } = await admin.listGroups()
    assert(groups.some((group) => group.groupId === groupId), 'the group is not listed')
    await assert.rejects(admin.deleteGroups([groupId]))
    const before = Array.from({ length: 100 }, (_, n) => `before ${n}`)
    await produceValues(topic, before, 4)
    const both = () => [...first.received, ...second.received].map(({ value }) => String(value))
    await eventually('both read everything', () => both().length >= 100)
    assert(first.received.length > 0 && second.received.length > 0, 'one member read nothing')
    await second.leave()
    const after = Array.from({ length: 100 }, (_, n) => `after ${n}`)
    await produceValues(topic, after, 4)
    await eventually('the survivor owns everything', () => first.owned.length === 4)
    await eventually('the survivor reads the rest', () => new Set(both()).size >= 200)
    assert.deepEqual([...new Set(both())].sort(), [...before, ...after].sort())
  } finally {
    await first.leave()
    await second.leave()
  }
  const [deleted] = await admin.deleteGroups([groupId])
  assert.equal(deleted.errorCode, 0)
})

check('commit and resume', async () => {
  const topic = await createTopic()
  const groupId = unique('group')
  await produceValues(topic, Array.from({ length: 20 }, (_, n) => `value ${n}`))
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '10' }] })
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  assert.equal(partitions[0].offset, '10')
  const member = await startMember(groupId, topic)
  await eventually('ten records', () => member.received.length >= 10)
  assert.equal(member.received[0].offset, '10')
  await member.leave()
  const [{ partitions: [{ offset }] }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  assert.equal(offset, '20', 'the offset committed when the member left')
})

check('topics and their configs', async () => {
  const topic = await createTopic(2, [{ name: 'retention.ms', value: '123456789' }])
  assert((await admin.listTopics()).includes(topic))
  const { topics: [metadata] } = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(metadata.partitions.length, 2)
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const retention = async () => {
    const { resources: [found] } = await admin.describeConfigs({
      resources: [{ ...resource, configNames: ['retention.ms'] }], includeSynonyms: false,
    })
    return found.configEntries[0].configValue
  }
  assert.equal(await retention(), '123456789')
  await admin.alterConfigs({
    resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '5000' }] }],
  })
  await eventually('an altered config is seen', async () => await retention() === '5000')
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, 'created again')
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await eventually('three partitions', async () => {
    const { topics: [found] } = await admin.fetchTopicMetadata({ topics: [topic] })
    return found.partitions.length === 3
  })
  await admin.deleteTopics({ topics: [topic] })
  await eventually('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
})

check('offsets and delete records', async () => {
  const topic = await createTopic()
  const before = Date.now()
  await produceValues(topic, Array.from({ length: 10 }, (_, n) => `value ${n}`))
  // kafkajs looks for the leader in its cache before it has asked for the topic.
  await admin.fetchTopicOffsets(topic)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
  const [offsets] = await admin.fetchTopicOffsets(topic)
  assert.deepEqual([offsets.low, offsets.high], ['4', '10'])
  const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, before - 1000)
  assert.equal(at.offset, '4')
})

check('the cluster', async () => {
  // A broker that is away for the moment is not told of.
  const { clusterId } = await eventually('all nodes are there', async () => {
    const described = await admin.describeCluster()
    return described.brokers.length === Number(process.env.NODES ?? 1) && described
  })
  assert(clusterId, 'there is no cluster id')
})

async function main () {
  assert(process.env.BOOTSTRAP, 'BOOTSTRAP is not set')
  const chosen = checks.filter(({ name }) => name.includes(process.env.ONLY ?? ''))
  let failed = 0
  await admin.connect()
  for (const { name, run } of chosen) {
    const started = Date.now()
    let timer
    const limit = new Promise((_, fail) => {
      timer = setTimeout(() => fail(new Error('still running after 45 s')), CHECK_LIMIT)
    })
    try {
      await Promise.race([run(), limit])
      console.log(`ok kafkajs: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`)
    } catch (error) {
      failed++
      console.log(`FAIL kafkajs: ${name}: ${String(error.message).replace(/\s+/g, ' ').slice(0, 500)}`)
      console.error(error)
    } finally {
      clearTimeout(timer)
    }
  }
  console.log(`kafkajs: ${failed} of ${chosen.length} checks failed`)
  process.exit(failed === 0 ? 0 : 1)
}

main().catch((error) => {
  console.log(`FAIL kafkajs: ${error.message}`)
  process.exit(1)
})
