// The producer writes to partition 0 with the settings of Drainer: no key,
// acks=all, a huge message limit, practically endless retries, and by default
// the protocol of Kafka 0.8.2. It knows which commit_ts are not acknowledged
// yet, and can disturb the order the way broken producers do.
package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/sarama"
)

type producer struct {
	async sarama.AsyncProducer
	topic string
	wg    sync.WaitGroup

	mu      sync.Mutex
	unacked []*message // in the order of sending; acknowledged ones leave from the front
	err     error

	twice, swap atomic.Int64 // how many more messages to disturb

	// owned by the life of the drainer
	late   *message   // goes out after its successor
	echoes []*message // go out again, a little later
}

type message struct {
	commitTS int64
	value    []byte
	acked    bool
}

func newProducer(brokers []string, topic, version string) (*producer, error) {
	v, err := sarama.ParseKafkaVersion(version)
	if err != nil {
		return nil, err
	}
	c := sarama.NewConfig()
	c.Version = v
	c.ClientID = "tidb_binlog"
	c.Metadata.Full = false
	c.Metadata.Retry.Max = 10000
	c.Metadata.Retry.Backoff = 500 * time.Millisecond
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.MaxMessageBytes = 1 << 30
	c.Producer.Flush.MaxMessages = 1024
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 10000
	c.Producer.Retry.Backoff = 500 * time.Millisecond
	sarama.MaxRequestSize = 1<<30 + 1
	sarama.MaxResponseSize = 1 << 30
	async, err := sarama.NewAsyncProducer(brokers, c)
	if err != nil {
		return nil, err
	}
	p := &producer{async: async, topic: topic}
	p.wg.Add(2)
	go func() {
		defer p.wg.Done()
		for m := range async.Successes() {
			p.acknowledge(m.Metadata.(*message))
		}
	}()
	go func() {
		defer p.wg.Done()
		for e := range async.Errors() {
			p.mu.Lock()
			p.err = e
			p.mu.Unlock()
		}
	}()
	return p, nil
}

func (p *producer) acknowledge(m *message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.acked, m.value = true, nil
	for len(p.unacked) > 0 && p.unacked[0].acked {
		p.unacked = p.unacked[1:]
	}
}

// oldestUnacked is the smallest commit_ts that Kafka has not acknowledged, or 0.
func (p *producer) oldestUnacked() (ts int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.unacked {
		if !m.acked && (ts == 0 || m.commitTS < ts) {
			ts = m.commitTS
		}
	}
	return ts
}

// settle waits until everything sent is acknowledged.
func (p *producer) settle(limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if p.oldestUnacked() == 0 {
			return true
		}
	}
	return false
}

// send takes a message over. It fails only when ctx ends before that or when
// Kafka refused a message for good.
func (p *producer) send(ctx context.Context, commitTS int64, value []byte) error {
	m, err := p.track(commitTS, value)
	if err != nil {
		return err
	}
	if p.late == nil && p.swap.Load() > 0 {
		p.swap.Add(-1)
		p.late = m
		return nil
	}
	if err := p.write(ctx, m); err != nil {
		return err
	}
	if err := p.writeLate(ctx); err != nil {
		return err
	}
	if p.twice.Load() > 0 {
		p.twice.Add(-1)
		again, err := p.track(commitTS, value)
		if err != nil {
			return err
		}
		p.echoes = append(p.echoes, again)
	}
	return p.writeEchoes(ctx, 2)
}

// release sends what is held back.
func (p *producer) release(ctx context.Context) error {
	if err := p.writeLate(ctx); err != nil {
		return err
	}
	return p.writeEchoes(ctx, 0)
}

func (p *producer) writeLate(ctx context.Context) error {
	if p.late == nil {
		return nil
	}
	m := p.late
	p.late = nil
	return p.write(ctx, m)
}

func (p *producer) writeEchoes(ctx context.Context, keep int) error {
	for len(p.echoes) > keep {
		m := p.echoes[0]
		p.echoes = p.echoes[1:]
		if err := p.write(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *producer) track(commitTS int64, value []byte) (*message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, fatalf("kafka: %v", p.err)
	}
	m := &message{commitTS: commitTS, value: value}
	p.unacked = append(p.unacked, m)
	return m, nil
}

func (p *producer) write(ctx context.Context, m *message) error {
	select {
	case p.async.Input() <- &sarama.ProducerMessage{Topic: p.topic, Partition: 0, Value: sarama.ByteEncoder(m.value), Metadata: m}:
		return nil
	case <-ctx.Done():
		p.acknowledge(m) // it will not be sent
		return ctx.Err()
	}
}

func (p *producer) close() { p.async.AsyncClose(); p.wg.Wait() }
