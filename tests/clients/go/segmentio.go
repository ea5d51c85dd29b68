package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
)

// segmentioChecks covers kafka-go, which speaks old API versions.
func segmentioChecks() []check {
	var checks []check
	codecs := map[string]kafka.Compression{
		"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	}
	for _, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		checks = append(checks, check{
			"kafka-go produce and consume [" + name + "]",
			func(ctx context.Context) error { return segmentioProduceAndConsume(ctx, codecs[name]) },
		})
	}
	return append(checks,
		check{"kafka-go connection to a leader", segmentioConnection},
		check{"kafka-go group reads, commits and resumes", segmentioGroup},
		check{"kafka-go group with two members and one leaving", segmentioTwoMembers},
	)
}

func segmentioTopic(ctx context.Context, partitions int) (string, error) {
	topic := unique("kafka-go")
	connection, err := kafka.DialContext(ctx, "tcp", bootstrap)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	err = connection.CreateTopics(kafka.TopicConfig{
		Topic: topic, NumPartitions: partitions, ReplicationFactor: replicationFactor(),
	})
	if err != nil {
		return "", err
	}
	return topic, eventually(ctx, "the topic has leaders", func() bool {
		found, err := connection.ReadPartitions(topic)
		return err == nil && len(found) == partitions && found[0].Leader.Host != ""
	})
}

func segmentioWriter(topic string, codec kafka.Compression) *kafka.Writer {
	return &kafka.Writer{
		Addr: kafka.TCP(bootstrap), Topic: topic, RequiredAcks: kafka.RequireAll,
		Compression: codec, BatchTimeout: 10 * time.Millisecond, Balancer: &kafka.RoundRobin{},
		// The transport shared by default caches the topics it knows for seconds.
		Transport: &kafka.Transport{},
	}
}

func segmentioProduceAndConsume(ctx context.Context, codec kafka.Compression) error {
	topic, err := segmentioTopic(ctx, 1)
	if err != nil {
		return err
	}
	writer := segmentioWriter(topic, codec)
	defer writer.Close()
	now := time.UnixMilli(time.Now().UnixMilli() - 60_000)
	var sent []kafka.Message
	for number := range 200 {
		sent = append(sent, kafka.Message{
			Key: fmt.Appendf(nil, "key %d", number), Value: fmt.Appendf(nil, "value %d", number),
			Time:    now.Add(time.Duration(number) * time.Millisecond),
			Headers: []kafka.Header{{Key: "number", Value: fmt.Appendf(nil, "%d", number)}},
		})
	}
	if err := writer.WriteMessages(ctx, sent...); err != nil {
		return err
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	for offset, wanted := range sent {
		got, err := reader.ReadMessage(ctx)
		if err != nil {
			return fmt.Errorf("reading offset %d: %w", offset, err)
		}
		describe := func(m kafka.Message, at int64) string {
			return fmt.Sprint(at, string(m.Key), string(m.Value), m.Headers, m.Time.UnixMilli())
		}
		err = expect("record", describe(got, got.Offset), describe(wanted, int64(offset)))
		if err != nil {
			return err
		}
	}
	return nil
}

func segmentioConnection(ctx context.Context) error {
	topic, err := segmentioTopic(ctx, 1)
	if err != nil {
		return err
	}
	connection, err := kafka.DialLeader(ctx, "tcp", bootstrap, topic, 0)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	for number := range 3 {
		_, err := connection.WriteMessages(kafka.Message{Value: fmt.Appendf(nil, "%d", number)})
		if err != nil {
			return err
		}
	}
	first, last, err := connection.ReadOffsets()
	if err != nil {
		return err
	}
	if err := expect("offsets", []int64{first, last}, []int64{0, 3}); err != nil {
		return err
	}
	if _, err := connection.Seek(0, kafka.SeekStart); err != nil {
		return err
	}
	batch := connection.ReadBatch(1, 1<<20)
	for number := range 3 {
		message, err := batch.ReadMessage()
		if err != nil {
			return err
		}
		if err := expect("value", string(message.Value), fmt.Sprint(number)); err != nil {
			return err
		}
	}
	if err := batch.Close(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return connection.DeleteTopics(topic)
}

func segmentioReader(topic, group string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset,
		MaxWait: 100 * time.Millisecond, HeartbeatInterval: 300 * time.Millisecond,
		JoinGroupBackoff: 200 * time.Millisecond,
	})
}

func segmentioGroup(ctx context.Context) error {
	topic, err := segmentioTopic(ctx, 1)
	if err != nil {
		return err
	}
	group := unique("kafka-go-group")
	writer := segmentioWriter(topic, 0)
	defer writer.Close()
	var messages []kafka.Message
	for _, value := range values("value", 20) {
		messages = append(messages, kafka.Message{Value: []byte(value)})
	}
	if err := writer.WriteMessages(ctx, messages...); err != nil {
		return err
	}
	next := int64(0)
	for range 2 {
		reader := segmentioReader(topic, group)
		for range 10 {
			message, err := reader.FetchMessage(ctx)
			if err != nil {
				return fmt.Errorf("reading offset %d: %w", next, err)
			}
			if err := expect("offset", message.Offset, next); err != nil {
				return err
			}
			if err := reader.CommitMessages(ctx, message); err != nil {
				return err
			}
			next++
		}
		if err := reader.Close(); err != nil {
			return err
		}
	}
	return nil
}

func segmentioTwoMembers(ctx context.Context) error {
	topic, err := segmentioTopic(ctx, 4)
	if err != nil {
		return err
	}
	group := unique("kafka-go-group")
	type read struct {
		member int
		value  string
	}
	received := make(chan read, 1000)
	start := func(member int) *kafka.Reader {
		reader := segmentioReader(topic, group)
		go func() {
			for {
				message, err := reader.ReadMessage(ctx)
				if err != nil {
					return
				}
				received <- read{member, string(message.Value)}
			}
		}()
		return reader
	}
	first, second := start(1), start(2)
	defer first.Close()
	writer := segmentioWriter(topic, 0)
	defer writer.Close()
	by, seen, sent := map[int]int{}, map[string]bool{}, 0
	produce := func(count int) error {
		var messages []kafka.Message
		for number := range count {
			value := fmt.Appendf(nil, "value %d", sent+number)
			messages = append(messages, kafka.Message{Value: value})
		}
		if err := writer.WriteMessages(ctx, messages...); err != nil {
			return err
		}
		sent += count
		return nil
	}
	drain := func() {
		for {
			select {
			case each := <-received:
				by[each.member]++
				seen[each.value] = true
			default:
				return
			}
		}
	}
	err = eventually(ctx, "both members read", func() bool {
		if sent < 400 && produce(4) != nil {
			return false
		}
		drain()
		return by[1] > 0 && by[2] > 0
	})
	if err != nil {
		return err
	}
	if err := second.Close(); err != nil {
		return err
	}
	if err := produce(100); err != nil {
		return err
	}
	return eventually(ctx, "the survivor reads the rest", func() bool {
		drain()
		return len(seen) == sent
	})
}
