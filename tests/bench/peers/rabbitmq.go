package main

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"
)

// Values of a stream that may wait for their confirmation.
const rabbitPending = 5000

type rabbitPeer struct {
	host string
	port int
}

func newRabbit(address string) (peer, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	return rabbitPeer{host, port}, err
}

func (p rabbitPeer) open() (*stream.Environment, error) {
	options := stream.NewEnvironmentOptions().SetHost(p.host).SetPort(p.port).
		SetUser("guest").SetPassword("guest").
		// The node calls itself by the machine's name.
		SetAddressResolver(stream.AddressResolver{Host: p.host, Port: p.port})
	return stream.NewEnvironment(options)
}

func (p rabbitPeer) create(streams []string) error {
	environment, err := p.open()
	if err != nil {
		return err
	}
	defer environment.Close()
	for _, name := range streams {
		if err := environment.DeclareStream(name, stream.NewStreamOptions()); err != nil {
			return err
		}
	}
	return nil
}

func (p rabbitPeer) remove(streams []string) error {
	environment, err := p.open()
	if err != nil {
		return err
	}
	defer environment.Close()
	for _, name := range streams {
		if err := environment.DeleteStream(name); err != nil {
			return err
		}
	}
	return nil
}

func (p rabbitPeer) produce(name string, count int, value []byte) error {
	environment, err := p.open()
	if err != nil {
		return err
	}
	defer environment.Close()
	producer, err := environment.NewProducer(name, nil)
	if err != nil {
		return err
	}
	defer producer.Close()
	room := make(chan struct{}, rabbitPending)
	var mutex sync.Mutex
	refused := 0
	go func() {
		for statuses := range producer.NotifyPublishConfirmation() {
			for _, status := range statuses {
				if !status.IsConfirmed() {
					mutex.Lock()
					refused++
					mutex.Unlock()
				}
				<-room
			}
		}
	}()
	// The client gathers them to batches.
	for range count {
		room <- struct{}{}
		if err := producer.Send(amqp.NewMessage(value)); err != nil {
			return err
		}
	}
	// All are confirmed once all of the room is free.
	for range rabbitPending {
		select {
		case room <- struct{}{}:
		case <-time.After(time.Minute):
			return fmt.Errorf("%s: not all confirmed", name)
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	if refused > 0 {
		return fmt.Errorf("%s: %d were refused", name, refused)
	}
	return nil
}

func (p rabbitPeer) consume(name string, count, size int) error {
	done := make(chan error, 1)
	read := 0
	each := func(_ stream.ConsumerContext, message *amqp.Message) {
		read++
		if got := len(message.GetData()); got != size {
			select {
			case done <- fmt.Errorf("%s: a value of %d bytes", name, got):
			default:
			}
		}
		if read == count {
			select {
			case done <- nil:
			default:
			}
		}
	}
	environment, err := p.open()
	if err != nil {
		return err
	}
	defer environment.Close()
	options := stream.NewConsumerOptions().SetOffset(stream.OffsetSpecification{}.First())
	consumer, err := environment.NewConsumer(name, each, options)
	if err != nil {
		return err
	}
	defer consumer.Close()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Minute):
		return fmt.Errorf("%s ends before %d", name, count)
	}
}
