// Command consume prints what partition 0 of a topic holds between an offset
// and the end it has at the start, then ends: one JSON object per message in
// the form that produce reads, or with -text in words.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/Shopify/sarama"
	pb "github.com/pingcap/tidb/tidb-binlog/proto/go-binlog"
)

var (
	brokers = flag.String("brokers", "127.0.0.1:9092", "brokers, comma separated")
	topic   = flag.String("topic", "tidb_obinlog", "topic")
	from    = flag.Int64("from", 0, "first offset")
	inWords = flag.Bool("text", false, "print in words")
	rows    = flag.Int("rows", 20, "row changes per table and message, with -text")
)

func main() {
	flag.Parse()
	w := bufio.NewWriter(os.Stdout)
	err := run(w)
	w.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "consume:", err)
		os.Exit(1)
	}
}

func run(w *bufio.Writer) error {
	sarama.MaxResponseSize = 1 << 30
	c := sarama.NewConfig()
	c.Version = sarama.V2_0_0_0
	c.Consumer.Fetch.Max = 1 << 30
	client, err := sarama.NewClient(strings.Split(*brokers, ","), c)
	if err != nil {
		return err
	}
	defer client.Close()
	end, err := client.GetOffset(*topic, 0, sarama.OffsetNewest)
	if err != nil || *from >= end {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	part, err := consumer.ConsumePartition(*topic, 0, *from)
	if err != nil {
		return err
	}
	for m := range part.Messages() {
		if err := show(w, m); err != nil || m.Offset+1 >= end {
			return err
		}
	}
	return nil
}

func show(w *bufio.Writer, m *sarama.ConsumerMessage) error {
	var b pb.Binlog
	bad := b.Unmarshal(m.Value)
	if !*inWords {
		return json.NewEncoder(w).Encode(struct {
			Offset   int64  `json:"offset"`
			CommitTS int64  `json:"commit_ts"`
			Value    []byte `json:"value_base64"`
		}{m.Offset, b.CommitTs, m.Value})
	}
	if bad != nil {
		fmt.Fprintf(w, "#%d %d bytes that are no message: %v\n", m.Offset, len(m.Value), bad)
		return nil
	}
	fmt.Fprintf(w, "#%d commit_ts=%d (%s) %s, %d bytes\n", m.Offset, b.CommitTs,
		time.UnixMilli(b.CommitTs>>18).UTC().Format("15:04:05.000"), b.Type, len(m.Value))
	if d := b.DdlData; d != nil {
		fmt.Fprintf(w, "  DDL schema=%q table=%q %s\n", d.GetSchemaName(), d.GetTableName(), d.GetDdlQuery())
	}
	for _, t := range b.GetDmlData().GetTables() {
		fmt.Fprintf(w, "  %s.%s", t.GetSchemaName(), t.GetTableName())
		for _, c := range t.ColumnInfo {
			fmt.Fprintf(w, " %s:%s(%d,%d)", c.Name, c.MysqlType, c.Flen, c.Decimal)
			if c.IsPrimaryKey {
				fmt.Fprint(w, "*")
			}
		}
		for _, k := range t.UniqueKeys {
			fmt.Fprintf(w, " key %s(%s)", k.GetName(), strings.Join(k.ColumnNames, ","))
		}
		fmt.Fprintln(w)
		for i, change := range t.Mutations {
			if i == *rows {
				fmt.Fprintf(w, "    ... %d more\n", len(t.Mutations)-i)
				break
			}
			fmt.Fprintf(w, "    %s %s", change.GetType(), row(change.Row))
			if change.ChangeRow != nil {
				fmt.Fprintf(w, " was %s", row(change.ChangeRow))
			}
			fmt.Fprintln(w)
		}
	}
	return nil
}

func row(r *pb.Row) string {
	var out []string
	for _, c := range r.GetColumns() {
		s := "(no field)"
		switch {
		case c.GetIsNull():
			s = "NULL"
		case c.Int64Value != nil:
			s = fmt.Sprintf("i:%d", *c.Int64Value)
		case c.Uint64Value != nil:
			s = fmt.Sprintf("u:%d", *c.Uint64Value)
		case c.DoubleValue != nil:
			s = fmt.Sprintf("d:%v", *c.DoubleValue)
		case c.BytesValue != nil:
			s = fmt.Sprintf("b:%.80q", c.BytesValue)
		case c.StringValue != nil:
			s = fmt.Sprintf("s:%.80q", *c.StringValue)
		}
		out = append(out, s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}
