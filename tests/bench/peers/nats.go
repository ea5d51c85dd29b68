package main

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Values of a stream that may wait for their acknowledgement.
const natsPending = 1000

type natsPeer struct{ address string }

func newNats(address string) (peer, error) { return natsPeer{"nats://" + address}, nil }

func (p natsPeer) open() (*nats.Conn, nats.JetStreamContext, error) {
	conn, err := nats.Connect(p.address)
	if err != nil {
		return nil, nil, err
	}
	js, err := conn.JetStream(nats.PublishAsyncMaxPending(natsPending))
	return conn, js, err
}

func (p natsPeer) create(streams []string) error {
	conn, js, err := p.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, stream := range streams {
		config := nats.StreamConfig{Name: stream, Subjects: []string{stream}, Storage: nats.FileStorage}
		if _, err := js.AddStream(&config); err != nil {
			return err
		}
	}
	return nil
}

func (p natsPeer) remove(streams []string) error {
	conn, js, err := p.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, stream := range streams {
		if err := js.DeleteStream(stream); err != nil {
			return err
		}
	}
	return nil
}

func (p natsPeer) produce(stream string, count int, value []byte) error {
	conn, js, err := p.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	last := make([]nats.PubAckFuture, 0, count)
	for range count {
		future, err := js.PublishAsync(stream, value, nats.StallWait(time.Minute))
		if err != nil {
			return err
		}
		last = append(last, future)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(5 * time.Minute):
		return fmt.Errorf("%s: not all acknowledged", stream)
	}
	for _, future := range last {
		select {
		case err := <-future.Err():
			return err
		default:
		}
	}
	return nil
}

func (p natsPeer) consume(stream string, count, size int) error {
	conn, js, err := p.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	subscription, err := js.SubscribeSync(stream, nats.OrderedConsumer(), nats.BindStream(stream))
	if err != nil {
		return err
	}
	for read := range count {
		message, err := subscription.NextMsg(30 * time.Second)
		if err != nil {
			return fmt.Errorf("%s, after %d of %d: %w", stream, read, count, err)
		}
		if len(message.Data) != size {
			return fmt.Errorf("%s: a value of %d bytes", stream, len(message.Data))
		}
	}
	return nil
}
