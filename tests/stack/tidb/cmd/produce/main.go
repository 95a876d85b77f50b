// Command produce writes messages to partition 0 of a topic, in the order of a
// file, with the protocol and settings of Drainer; it creates the topic when it
// is missing. It returns when every message is acknowledged and prints
// {"messages","first_offset","last_offset"}.
//
// The file has one JSON object per line, gzip when its name ends in .gz; the
// message is the base64 text in "value_base64" or "value".
package main

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/Shopify/sarama"
)

var (
	brokers    = flag.String("brokers", "127.0.0.1:9092", "brokers, comma separated")
	topic      = flag.String("topic", "tidb_obinlog", "topic")
	partitions = flag.Int("partitions", 1, "partitions of the topic if it is created")
	file       = flag.String("file", "", "messages, one JSON object per line; - is standard input")
	skip       = flag.Int("skip", 0, "messages of the file to leave out first")
	count      = flag.Int("count", -1, "messages of the file to write at most; -1: all")
	rawHex     = flag.String("raw-hex", "", "after the file, one message of these bytes")
	rawFile    = flag.String("raw-file", "", "then one message of this file's bytes")
	createOnly = flag.Bool("create-only", false, "only create the topic")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "produce:", err)
		os.Exit(1)
	}
}

func run() error {
	sarama.MaxRequestSize = 1<<30 + 1
	if err := createTopic(); err != nil || *createOnly {
		return err
	}
	c := sarama.NewConfig()
	c.Version = sarama.V0_8_2_0
	c.Metadata.Full = false
	c.Net.MaxOpenRequests = 1 // keeps the order over retries
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.MaxMessageBytes = 1 << 30
	c.Producer.Timeout, c.Net.ReadTimeout, c.Net.WriteTimeout = 5*time.Minute, 5*time.Minute, 5*time.Minute
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	producer, err := sarama.NewAsyncProducer(strings.Split(*brokers, ","), c)
	if err != nil {
		return err
	}

	summary := struct {
		Messages int   `json:"messages"`
		First    int64 `json:"first_offset"`
		Last     int64 `json:"last_offset"`
	}{First: -1, Last: -1}
	acks := make(chan struct{})
	go func() {
		defer close(acks)
		for m := range producer.Successes() {
			if summary.Messages == 0 {
				summary.First = m.Offset
			}
			summary.Messages++
			summary.Last = m.Offset
		}
	}()
	refused := make(chan error, 1)
	go func() {
		var first error
		for e := range producer.Errors() {
			if first == nil {
				first = e
			}
		}
		refused <- first
	}()

	err = eachMessage(func(value []byte) {
		producer.Input() <- &sarama.ProducerMessage{Topic: *topic, Value: sarama.ByteEncoder(value)}
	})
	producer.AsyncClose()
	<-acks
	if refusal := <-refused; err == nil {
		err = refusal
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary)
}

func createTopic() error {
	c := sarama.NewConfig()
	c.Version = sarama.V2_0_0_0
	admin, err := sarama.NewClusterAdmin(strings.Split(*brokers, ","), c)
	if err != nil {
		return err
	}
	defer admin.Close()
	err = admin.CreateTopic(*topic, &sarama.TopicDetail{NumPartitions: int32(*partitions), ReplicationFactor: 1}, false)
	var refusal *sarama.TopicError
	if errors.As(err, &refusal) && refusal.Err == sarama.ErrTopicAlreadyExists {
		return nil
	}
	if err != nil {
		return err
	}
	for i := 0; i < 100; i++ { // a producer that meets an unknown topic waits longer
		found, err := admin.DescribeTopics([]string{*topic})
		if err == nil && len(found) == 1 && found[0].Err == sarama.ErrNoError && len(found[0].Partitions) > 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("topic %s does not appear", *topic)
}

func eachMessage(send func([]byte)) error {
	if *file != "" {
		in := io.ReadCloser(os.Stdin)
		if *file != "-" {
			f, err := os.Open(*file)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		if strings.HasSuffix(*file, ".gz") {
			z, err := gzip.NewReader(in)
			if err != nil {
				return err
			}
			in = z
		}
		lines := bufio.NewScanner(in)
		lines.Buffer(make([]byte, 1<<20), 2<<30)
		for n := 0; lines.Scan() && (*count < 0 || n < *skip+*count); n++ {
			if n < *skip {
				continue
			}
			var line struct {
				Value  string `json:"value"`
				Base64 string `json:"value_base64"`
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				return fmt.Errorf("line %d: %w", n+1, err)
			}
			if line.Base64 == "" {
				line.Base64 = line.Value
			}
			value, err := base64.StdEncoding.DecodeString(line.Base64)
			if err != nil {
				return fmt.Errorf("line %d: %w", n+1, err)
			}
			send(value)
		}
		if err := lines.Err(); err != nil {
			return err
		}
	}
	if *rawHex != "" {
		value, err := hex.DecodeString(*rawHex)
		if err != nil {
			return fmt.Errorf("-raw-hex: %w", err)
		}
		send(value)
	}
	if *rawFile != "" {
		value, err := os.ReadFile(*rawFile)
		if err != nil {
			return err
		}
		send(value)
	}
	return nil
}
