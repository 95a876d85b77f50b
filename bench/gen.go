package main

// Topics: TiDB Drainer's "secondary binlog" messages with genuine bytes, deterministic by seed, to partition 0 as
// Drainer produces them; and what the target must hold in the end.

import (
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/IBM/sarama"
	pb "github.com/pingcap/tidb/tidb-binlog/proto/go-binlog"

	"bench/rowgen"
)

var (
	brokers  = flag.String("brokers", "127.0.0.1:9092", "Kafka addresses")
	topic    = flag.String("topic", "", "topic")
	kver     = flag.String("kafka-version", "0.8.2.0", "protocol version of the producer")
	db       = flag.String("db", "bench", "schema name")
	tables   = flag.Int("tables", 4, "tables t0..tN-1")
	txns     = flag.Int("txns", 200000, "transactions")
	rows     = flag.Int("rows", 5, "rows a transaction")
	mix      = flag.String("mix", "60,30,10", "percent of insert,update,delete")
	spread   = flag.Bool("spread", true, "each row picks a table; false: a transaction stays in one table")
	preload  = flag.Int("preload", 0, "rows inserted first (1000 a transaction), not counted in -txns")
	recent   = flag.Float64("recent", 0.5, "share of updates on recently inserted rows, the rest hits hot keys")
	zipf     = flag.Float64("zipf", 1.1, "zipf exponent over the hot keys (>1); 0 is uniform")
	hotKeys  = flag.Uint64("hot", 10000, "hot keys, the first ids over all tables")
	endTable = flag.String("end", "done", "last message: DDL creating this table (empty: none)")
	seed     = flag.Uint64("seed", 1, "seed")
	firstMS  = flag.Int64("first-ms", 1700000000000, "physical time of the first commit_ts")
)

// table keeps the live rows of one table: the version of each and, for an even
// choice among them, their ids in no order.
type table struct {
	name  string
	next  int64
	ver   map[int64]uint32
	alive []int64
	at    map[int64]int
}

func (t *table) insert() int64 {
	t.next++
	t.ver[t.next] = 0
	t.at[t.next] = len(t.alive)
	t.alive = append(t.alive, t.next)
	return t.next
}

func (t *table) remove(id int64) {
	i, last := t.at[id], t.alive[len(t.alive)-1]
	t.alive[i], t.at[last] = last, i
	t.alive = t.alive[:len(t.alive)-1]
	delete(t.at, id)
	delete(t.ver, id)
}

// change is one row's new state.
type change struct {
	table   int
	id      int64
	version uint32
	gone    bool
}

type gen struct {
	r    *rand.Rand
	z    *rand.Zipf
	tabs []*table
	cols []*pb.ColumnInfo
	seq  int64
	send func([]byte)
	// What the present transaction did to rows, for those who fold.
	changes []change
	stat    struct{ Messages, Bytes, Inserts, Updates, Deletes, FirstTS, LastTS int64 }
}

func (g *gen) emit(b *pb.Binlog) {
	b.CommitTs = (*firstMS+g.seq/8)<<18 | (g.seq%8 + 1)
	g.seq++
	data, err := b.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	if g.stat.Messages == 0 {
		g.stat.FirstTS = b.CommitTs
	}
	g.stat.LastTS = b.CommitTs
	g.stat.Messages++
	g.stat.Bytes += int64(len(data))
	g.send(data)
}

func (g *gen) emitDDL(tab, query string) {
	g.changes = g.changes[:0]
	g.emit(&pb.Binlog{Type: pb.BinlogType_DDL, DdlData: &pb.DDLData{SchemaName: db, TableName: &tab, DdlQuery: []byte(query)}})
}

func image(t int, id int64, ver uint32) *pb.Row {
	r := rowgen.Make(*seed, t, id, ver)
	k, cnt, small, yes := int64(r.K), uint64(r.Cnt), int64(r.Small), true
	note := &pb.Column{IsNull: &yes}
	if r.Note != nil {
		s := string(r.Note)
		note = &pb.Column{StringValue: &s}
	}
	return &pb.Row{Columns: []*pb.Column{
		{Int64Value: &r.ID}, {Int64Value: &k}, {Uint64Value: &cnt}, {Int64Value: &small},
		{StringValue: &r.Amount}, {StringValue: &r.Name}, {StringValue: &r.Code}, note,
		{StringValue: &r.Created}, {StringValue: &r.Updated}, {DoubleValue: &r.Score}, {BytesValue: r.Doc},
	}}
}

// pick finds a live row for an update or delete that this transaction has not touched.
func (g *gen) pick(ti int, del bool, used map[[2]int64]bool) (int, int64, bool) {
	for range 50 {
		t := g.tabs[ti]
		var id int64
		switch {
		case len(t.alive) == 0:
		case del:
			id = t.alive[g.r.IntN(len(t.alive))]
		case g.r.Float64() < *recent:
			id = t.next - g.r.Int64N(min(t.next, 1000))
		default:
			n := g.r.Uint64N(*hotKeys)
			if g.z != nil {
				n = g.z.Uint64()
			}
			if *spread {
				ti, n = int(n)%len(g.tabs), n/uint64(len(g.tabs))
				t = g.tabs[ti]
			}
			id = int64(n) + 1
		}
		if _, ok := t.ver[id]; ok && !used[[2]int64{int64(ti), id}] {
			return ti, id, true
		}
	}
	return 0, 0, false
}

func (g *gen) txn(n int, ins, upd float64) {
	g.changes = g.changes[:0]
	muts := make([][]*pb.TableMutation, len(g.tabs))
	used := make(map[[2]int64]bool, n)
	home := g.r.IntN(len(g.tabs))
	for range n {
		ti := home
		if *spread {
			ti = g.r.IntN(len(g.tabs))
		}
		p, id, ok := g.r.Float64()*100, int64(0), false
		var m *pb.TableMutation
		if p >= ins {
			ti, id, ok = g.pick(ti, p >= ins+upd, used)
		}
		switch {
		case !ok:
			id = g.tabs[ti].insert()
			m = &pb.TableMutation{Type: pb.MutationType_Insert.Enum(), Row: image(ti, id, 0)}
			g.stat.Inserts++
		case p < ins+upd:
			v := g.tabs[ti].ver[id]
			g.tabs[ti].ver[id] = v + 1
			m = &pb.TableMutation{Type: pb.MutationType_Update.Enum(), Row: image(ti, id, v+1), ChangeRow: image(ti, id, v)}
			g.stat.Updates++
		default:
			m = &pb.TableMutation{Type: pb.MutationType_Delete.Enum(), Row: image(ti, id, g.tabs[ti].ver[id])}
			g.tabs[ti].remove(id)
			g.stat.Deletes++
		}
		g.changes = append(g.changes, change{ti, id, g.tabs[ti].ver[id], p >= ins+upd && ok})
		used[[2]int64{int64(ti), id}] = true
		muts[ti] = append(muts[ti], m)
	}
	b := &pb.Binlog{Type: pb.BinlogType_DML, DmlData: &pb.DMLData{}}
	primary := "PRIMARY"
	for ti, m := range muts {
		if m != nil {
			b.DmlData.Tables = append(b.DmlData.Tables, &pb.Table{SchemaName: db, TableName: &g.tabs[ti].name, ColumnInfo: g.cols, Mutations: m,
				UniqueKeys: []*pb.Key{{Name: &primary, ColumnNames: []string{"id"}}}})
		}
	}
	g.emit(b)
}

// kafkaSender produces as Drainer does: manual partition 0, all acks, no key.
func kafkaSender() (send func([]byte), finish func() int64) {
	c := sarama.NewConfig()
	v, err := sarama.ParseKafkaVersion(*kver)
	if err != nil {
		log.Fatal(err)
	}
	sarama.MaxRequestSize = math.MaxInt32
	c.Version = v
	c.ApiVersionsRequest = false
	c.Net.MaxOpenRequests = 1
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.MaxMessageBytes = 1 << 30
	// Batches below 1 MiB, as transactions make them that do not come all at once (a row takes some 700 bytes): before
	// one of 1.4 MB Arbiter, whose sarama asks for 1 MiB by the oldest protocol, stood still for ever.
	c.Producer.Flush.MaxMessages = max(700 / *rows, 1)
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	p, err := sarama.NewAsyncProducer(strings.Split(*brokers, ","), c)
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan int64)
	go func() {
		last := int64(-1)
		for m := range p.Successes() {
			last = m.Offset
		}
		done <- last
	}()
	go func() {
		for e := range p.Errors() {
			log.Fatal(e)
		}
	}()
	send = func(b []byte) { p.Input() <- &sarama.ProducerMessage{Topic: *topic, Value: sarama.ByteEncoder(b)} }
	finish = func() int64 {
		p.AsyncClose()
		return <-done
	}
	return send, finish
}

func newGen(send func([]byte)) *gen {
	g := &gen{r: rand.New(rand.NewPCG(*seed, 7)), send: send}
	if *zipf > 1 {
		g.z = rand.NewZipf(g.r, *zipf, 1, *hotKeys-1)
	}
	for i := range *tables {
		g.tabs = append(g.tabs, &table{name: fmt.Sprintf("t%d", i), ver: map[int64]uint32{}, at: map[int64]int{}})
	}
	for i, c := range rowgen.Cols {
		g.cols = append(g.cols, &pb.ColumnInfo{Name: c.Name, MysqlType: c.Type, IsPrimaryKey: i == 0, Flen: c.Flen, Decimal: c.Dec})
	}
	return g
}

// run emits everything that the flags say.
func (g *gen) run() {
	var ins, upd, del float64
	if _, err := fmt.Sscanf(*mix, "%f,%f,%f", &ins, &upd, &del); err != nil {
		log.Fatal("-mix wants three numbers")
	}
	g.emitDDL("", "CREATE DATABASE IF NOT EXISTS `"+*db+"`")
	for _, t := range g.tabs {
		g.emitDDL(t.name, rowgen.CreateTable("`"+t.name+"`"))
	}
	for n := *preload; n > 0; n -= 1000 {
		g.txn(min(n, 1000), 100, 0)
	}
	for range *txns {
		g.txn(*rows, ins, upd)
	}
	if *endTable != "" {
		g.emitDDL(*endTable, "CREATE TABLE `"+*endTable+"` (`id` INT PRIMARY KEY)")
	}
}

type want struct{ Rows, CRC uint64 }

// wanted is what each table must hold now.
func (g *gen) wanted() map[string]want {
	sums := map[string]want{}
	var buf []byte
	for ti, t := range g.tabs {
		w := want{Rows: uint64(len(t.ver))}
		for id, v := range t.ver {
			r := rowgen.Make(*seed, ti, id, v)
			var c uint32
			c, buf = r.Sum(buf)
			w.CRC += uint64(c)
		}
		sums[*db+"."+t.name] = w
	}
	return sums
}

func genMain() {
	if *topic == "" {
		log.Fatal("-topic is missing")
	}
	send, finish := kafkaSender()
	g := newGen(send)
	start := time.Now()
	g.run()
	last := finish()
	report(map[string]any{"messages": g.stat.Messages, "bytes": g.stat.Bytes, "changes": g.stat.Inserts + g.stat.Updates + g.stat.Deletes,
		"inserts": g.stat.Inserts, "updates": g.stat.Updates, "deletes": g.stat.Deletes, "last_offset": last,
		"first_ts": g.stat.FirstTS, "last_ts": g.stat.LastTS,
		"seconds": time.Since(start).Seconds(), "tables": g.wanted(), "check_sql": rowgen.CheckSQL})
}
