package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func franzChecks() []check {
	var checks []check
	codecs := []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()},
		{"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()},
		{"zstd", kgo.ZstdCompression()},
	}
	for _, codec := range codecs {
		for _, idempotent := range []bool{false, true} {
			name := fmt.Sprintf("franz produce and consume [%s, idempotent %t]", codec.name, idempotent)
			checks = append(checks, check{name, func(ctx context.Context) error {
				return franzProduceAndConsume(ctx, codec.codec, idempotent)
			}})
		}
	}
	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
		"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}
	for _, name := range []string{"range", "roundrobin", "sticky", "cooperative-sticky"} {
		checks = append(checks, check{
			"franz group with two members and one leaving [" + name + "]",
			func(ctx context.Context) error { return franzGroup(ctx, balancers[name]) },
		})
	}
	return append(checks,
		check{"franz commit and resume", franzCommitAndResume},
		check{"franz topics and their configs", franzTopics},
		check{"franz offsets and delete records", franzOffsets},
	)
}

func franzClient(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.FetchMaxWait(100 * time.Millisecond),
	}, options...)...)
}

// withAdmin calls a function with an admin client and a topic made for it.
func withAdmin(ctx context.Context, partitions int32,
	use func(admin *kadm.Client, topic string) error) error {
	client, err := franzClient()
	if err != nil {
		return err
	}
	defer client.Close()
	admin, topic := kadm.NewClient(client), unique("franz")
	if _, err := admin.CreateTopic(ctx, partitions, int16(replicationFactor()), nil, topic); err != nil {
		return fmt.Errorf("creating %s: %w", topic, err)
	}
	led := func() bool {
		topics, err := admin.ListTopics(ctx, topic)
		if err != nil || len(topics[topic].Partitions) != int(partitions) {
			return false
		}
		for _, partition := range topics[topic].Partitions {
			if partition.Leader < 0 {
				return false
			}
		}
		return true
	}
	if err := eventually(ctx, "the topic has leaders", led); err != nil {
		return err
	}
	return use(admin, topic)
}

func franzProduceValues(ctx context.Context, topic string, values []string, partitions int) error {
	client, err := franzClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for number, value := range values {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: int32(number % partitions), Value: []byte(value),
		})
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

func franzRead(ctx context.Context, client *kgo.Client, count int) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

func franzProduceAndConsume(ctx context.Context, codec kgo.CompressionCodec, idempotent bool) error {
	return withAdmin(ctx, 1, func(_ *kadm.Client, topic string) error {
		options := []kgo.Opt{
			kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20 * time.Millisecond),
		}
		if !idempotent {
			options = append(options, kgo.DisableIdempotentWrite())
		}
		client, err := franzClient(options...)
		if err != nil {
			return err
		}
		defer client.Close()
		now := time.UnixMilli(time.Now().UnixMilli() - 60_000)
		sent := []*kgo.Record{
			{Key: []byte("key"), Value: []byte("value"), Timestamp: now,
				Headers: []kgo.RecordHeader{{Key: "header", Value: []byte("1")}}},
			{Value: []byte("no key"), Timestamp: now.Add(5 * time.Millisecond)},
			{Key: []byte("tombstone"), Timestamp: now.Add(3 * time.Millisecond)},
			{Key: []byte{}, Value: []byte{}, Timestamp: now.Add(time.Millisecond),
				Headers: []kgo.RecordHeader{{Key: "empty", Value: []byte{}}, {Key: "null"}}},
			{Key: []byte{0, 255, 254}, Value: []byte("größe ✓"), Timestamp: now.Add(time.Second),
				Headers: []kgo.RecordHeader{
					{Key: "twice", Value: []byte("a")}, {Key: "twice", Value: []byte("b")}}},
			{Key: []byte("large"), Value: bytes.Repeat([]byte("0123456789abcdef"), 8192),
				Timestamp: now.Add(7 * time.Millisecond)},
		}
		for _, record := range sent {
			record.Topic = topic
		}
		if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
			return err
		}
		reader, err := franzClient(kgo.ConsumePartitions(
			map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
		if err != nil {
			return err
		}
		defer reader.Close()
		received, err := franzRead(ctx, reader, len(sent))
		if err != nil {
			return err
		}
		for offset, got := range received {
			wanted := sent[offset]
			if got.Offset != int64(offset) || wanted.Offset != int64(offset) {
				return fmt.Errorf("offset %d: acknowledged %d, read %d",
					offset, wanted.Offset, got.Offset)
			}
			same := bytes.Equal(got.Key, wanted.Key) && (got.Key == nil) == (wanted.Key == nil) &&
				bytes.Equal(got.Value, wanted.Value) && (got.Value == nil) == (wanted.Value == nil) &&
				got.Timestamp.Equal(wanted.Timestamp) && len(got.Headers) == len(wanted.Headers)
			for at := 0; same && at < len(got.Headers); at++ {
				one, other := got.Headers[at], wanted.Headers[at]
				same = one.Key == other.Key && bytes.Equal(one.Value, other.Value) &&
					(one.Value == nil) == (other.Value == nil)
			}
			if !same {
				return fmt.Errorf("offset %d: expected %.200v, got %.200v", offset, wanted, got)
			}
		}
		return nil
	})
}

// franzMember polls a group in a goroutine of its own.
type franzMember struct {
	client *kgo.Client
	done   chan struct{}

	mutex    sync.Mutex
	owned    map[int32]bool
	received []string
}

func newFranzMember(topic, group string, balancer kgo.GroupBalancer) (*franzMember, error) {
	member := &franzMember{done: make(chan struct{}), owned: map[int32]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			member.mutex.Lock()
			defer member.mutex.Unlock()
			for _, partition := range partitions[topic] {
				if owned {
					member.owned[partition] = true
				} else {
					delete(member.owned, partition)
				}
			}
		}
	}
	release := change(false)
	client, err := franzClient(
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.AutoCommitInterval(200*time.Millisecond),
		// That a member leaves is said once. If the coordinator goes in that moment, others have to
		// wait until its session is over.
		kgo.SessionTimeout(6*time.Second),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsLost(release),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, lost map[string][]int32) {
			// What was polled is committed before the partition goes to somebody else.
			_ = client.CommitUncommittedOffsets(ctx)
			release(ctx, client, lost)
		}),
	)
	if err != nil {
		return nil, err
	}
	member.client = client
	go func() {
		defer close(member.done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			member.mutex.Lock()
			for _, record := range fetches.Records() {
				member.received = append(member.received, string(record.Value))
			}
			member.mutex.Unlock()
		}
	}()
	return member, nil
}

func (member *franzMember) owns() []int {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	var owned []int
	for partition := range member.owned {
		owned = append(owned, int(partition))
	}
	return owned
}

func (member *franzMember) read() []string {
	member.mutex.Lock()
	defer member.mutex.Unlock()
	return append([]string(nil), member.received...)
}

func (member *franzMember) leave(ctx context.Context) {
	_ = member.client.CommitUncommittedOffsets(ctx)
	member.client.Close()
	<-member.done
}

// gone says whether an error tells of a broker that is away. An administrator hands on those of a
// group's coordinator: whoever uses it asks again, and is led to the next one.
func gone(err error) bool {
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) {
		for _, each := range shards.Errs {
			if !gone(each.Err) {
				return false
			}
		}
		return true
	}
	var network *net.OpError
	return errors.Is(err, io.EOF) || errors.As(err, &network)
}

// asking repeats what is asked of an administrator while the broker that it turns to is gone.
func asking[T any](ask func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		answer, err := ask()
		if attempt == 20 || !gone(err) {
			return answer, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func franzGroup(ctx context.Context, balancer kgo.GroupBalancer) error {
	return withAdmin(ctx, 4, func(admin *kadm.Client, topic string) error {
		group := unique("franz-group")
		first, err := newFranzMember(topic, group, balancer)
		if err != nil {
			return err
		}
		second, err := newFranzMember(topic, group, balancer)
		if err != nil {
			return err
		}
		shared := func() bool {
			one, two := first.owns(), second.owns()
			all := append(one, two...)
			sort.Ints(all)
			return len(one) > 0 && len(two) > 0 && fmt.Sprint(all) == "[0 1 2 3]"
		}
		if err := eventually(ctx, "two members share the partitions", shared); err != nil {
			return err
		}
		described, err := asking(func() (kadm.DescribedGroups, error) {
			return admin.DescribeGroups(ctx, group)
		})
		if err != nil {
			return err
		}
		if err := expect("state", described[group].State, "Stable"); err != nil {
			return err
		}
		if err := expect("members", len(described[group].Members), 2); err != nil {
			return err
		}
		// A group is listed by its coordinator, and by nobody while it moves to another.
		err = eventually(ctx, "the group is listed", func() bool {
			listed, _ := admin.ListGroups(ctx)
			_, found := listed[group]
			return found
		})
		if err != nil {
			return err
		}
		deleteGroup := func() (kadm.DeleteGroupResponse, error) { return admin.DeleteGroup(ctx, group) }
		if _, err := asking(deleteGroup); !errors.Is(err, kerr.NonEmptyGroup) {
			return fmt.Errorf("deleting a group in use: %v", err)
		}
		all := values("before", 100)
		if err := franzProduceValues(ctx, topic, all, 4); err != nil {
			return err
		}
		both := func() []string { return append(first.read(), second.read()...) }
		err = eventually(ctx, "both read everything", func() bool { return len(both()) >= 100 })
		if err != nil {
			return err
		}
		second.leave(ctx)
		after := values("after", 100)
		if err := franzProduceValues(ctx, topic, after, 4); err != nil {
			return err
		}
		err = eventually(ctx, "the survivor owns and reads the rest", func() bool {
			return len(first.owns()) == 4 && len(both()) >= 200
		})
		if err != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
		first.leave(ctx)
		received, wanted := both(), append(all, after...)
		sort.Strings(received)
		sort.Strings(wanted)
		if err := expect("records read", received, wanted); err != nil {
			return err
		}
		_, err = asking(deleteGroup)
		// The coordinator that deleted it may have gone before it could say so.
		if err != nil && !(nodes() > 1 && errors.Is(err, kerr.GroupIDNotFound)) {
			return fmt.Errorf("deleting the group: %w", err)
		}
		return nil
	})
}

func values(name string, count int) []string {
	var all []string
	for number := range count {
		all = append(all, fmt.Sprintf("%s %d", name, number))
	}
	return all
}

func franzCommitAndResume(ctx context.Context) error {
	return withAdmin(ctx, 1, func(admin *kadm.Client, topic string) error {
		group := unique("franz-group")
		if err := franzProduceValues(ctx, topic, values("value", 20), 1); err != nil {
			return err
		}
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: topic, At: 10, LeaderEpoch: -1, Metadata: "ten"})
		if err := admin.CommitAllOffsets(ctx, group, offsets); err != nil {
			return err
		}
		fetched, err := admin.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		committed, _ := fetched.Lookup(topic, 0)
		if err := expect("committed", committed.At, 10); err != nil {
			return err
		}
		if err := expect("metadata", committed.Metadata, "ten"); err != nil {
			return err
		}
		client, err := franzClient(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic))
		if err != nil {
			return err
		}
		defer client.Close()
		records, err := franzRead(ctx, client, 10)
		if err != nil {
			return err
		}
		return expect("offset after resuming", records[0].Offset, 10)
	})
}

func franzTopics(ctx context.Context) error {
	return withAdmin(ctx, 2, func(admin *kadm.Client, topic string) error {
		number := func(key string) string {
			described, err := admin.DescribeTopicConfigs(ctx, topic)
			if err != nil {
				return err.Error()
			}
			for _, config := range described[0].Configs {
				if config.Key == key {
					return config.MaybeValue()
				}
			}
			return "absent"
		}
		value := "5000"
		change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}
		if _, err := admin.AlterTopicConfigs(ctx, change, topic); err != nil {
			return err
		}
		err := eventually(ctx, "an altered config is seen", func() bool {
			return number("retention.ms") == "5000"
		})
		if err != nil {
			return err
		}
		if _, err := admin.UpdatePartitions(ctx, 3, topic); err != nil {
			return err
		}
		err = eventually(ctx, "three partitions", func() bool {
			topics, err := admin.ListTopics(ctx, topic)
			return err == nil && len(topics[topic].Partitions) == 3
		})
		if err != nil {
			return err
		}
		_, err = admin.CreateTopic(ctx, 1, int16(replicationFactor()), nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("creating the topic again: %v", err)
		}
		// A broker that is away for the moment is not told of, and a client that knows of any
		// broker answers this from what it knows: each look is one of a client of its own.
		err = eventually(ctx, "all nodes are there", func() bool {
			client, err := franzClient()
			if err != nil {
				return false
			}
			defer client.Close()
			brokers, err := kadm.NewClient(client).BrokerMetadata(ctx)
			return err == nil && brokers.Cluster != "" && len(brokers.Brokers) == nodes()
		})
		if err != nil {
			return err
		}
		if _, err := admin.DeleteTopic(ctx, topic); err != nil {
			return err
		}
		return eventually(ctx, "the topic is gone", func() bool {
			topics, err := admin.ListTopics(ctx)
			return err == nil && !strings.Contains(strings.Join(topics.Names(), " "), topic)
		})
	})
}

func franzOffsets(ctx context.Context) error {
	return withAdmin(ctx, 1, func(admin *kadm.Client, topic string) error {
		before := time.Now().UnixMilli()
		if err := franzProduceValues(ctx, topic, values("value", 10), 1); err != nil {
			return err
		}
		until := kadm.Offsets{}
		until.Add(kadm.Offset{Topic: topic, At: 4})
		if _, err := admin.DeleteRecords(ctx, until); err != nil {
			return err
		}
		for _, each := range []struct {
			what   string
			list   func(context.Context, ...string) (kadm.ListedOffsets, error)
			wanted int64
		}{
			{"start", admin.ListStartOffsets, 4},
			{"end", admin.ListEndOffsets, 10},
			{"committed end", admin.ListCommittedOffsets, 10},
			{"from a time", func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
				return admin.ListOffsetsAfterMilli(ctx, before-1000, topics...)
			}, 4},
		} {
			listed, err := each.list(ctx, topic)
			if err != nil {
				return err
			}
			found, _ := listed.Lookup(topic, 0)
			if err := expect(each.what+" offset", found.Offset, each.wanted); err != nil {
				return err
			}
		}
		return nil
	})
}
