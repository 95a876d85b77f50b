package main

// Changes at a steady rate, as Drainer would send them, and the time from each commit until its row is seen in the target:
// every few milliseconds one transaction writes to a table of probes alone, and a connection asks for the newest all the time.

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"bench/rowgen"

	pb "github.com/pingcap/tidb/tidb-binlog/proto/go-binlog"
)

var (
	rate       = flag.Float64("rate", 1000, "lag: changes a second")
	duration   = flag.Duration("duration", 20*time.Second, "lag: how long")
	probeEvery = flag.Duration("probe-every", 10*time.Millisecond, "lag: between probes")
	warmUp     = flag.Duration("warm-up", 3*time.Second, "lag: probes before this do not count")
)

// planned is a message and when it is committed, from the begin.
type planned struct {
	at   time.Duration
	data []byte
	// 0: none
	probe int64
}

// commitTS writes the time into a message that was made before: the second field, nine bytes of varint.
func commitTS(data []byte, ts uint64) {
	if len(data) < 12 || data[0] != 0x08 || data[2] != 0x10 {
		panic("a message that does not begin with type and commit_ts")
	}
	for i := 3; i < 12; i++ {
		data[i] = byte(ts) | 0x80
		ts >>= 7
	}
	data[11] &= 0x7f
}

func (g *gen) probe(id int64) {
	name, primary := "probe", "PRIMARY"
	g.changes = g.changes[:0]
	g.emit(&pb.Binlog{Type: pb.BinlogType_DML, DmlData: &pb.DMLData{Tables: []*pb.Table{{SchemaName: db, TableName: &name, ColumnInfo: g.cols[:1],
		Mutations:  []*pb.TableMutation{{Type: pb.MutationType_Insert.Enum(), Row: &pb.Row{Columns: []*pb.Column{{Int64Value: &id}}}}},
		UniqueKeys: []*pb.Key{{Name: &primary, ColumnNames: []string{"id"}}}}}}})
}

// plan makes the transactions of the next stretch, then their place in time: five rows each, at the rate.
func (g *gen) plan(out *[]planned, from, to time.Duration, nextProbe *int64) {
	var ins, upd, del float64
	_, err := fmt.Sscanf(*mix, "%f,%f,%f", &ins, &upd, &del)
	must(err)
	step := time.Duration(float64(*rows) / *rate * float64(time.Second))
	for at := from; at < to; at += step {
		for time.Duration(*nextProbe)*(*probeEvery) <= at {
			g.send = func(data []byte) { *out = append(*out, planned{at, data, *nextProbe}) }
			g.probe(*nextProbe)
			*nextProbe++
		}
		g.send = func(data []byte) { *out = append(*out, planned{at, data, 0}) }
		g.txn(*rows, ins, upd)
	}
}

func lagMain() {
	send, finish := kafkaSender()
	g := newGen(nil)
	// Tables and preloaded rows come before the clock starts, their commits just before now.
	*firstMS = time.Now().UnixMilli() - 1000
	g.send = send
	g.emitDDL("", "CREATE DATABASE IF NOT EXISTS `"+*db+"`")
	g.emitDDL("probe", "CREATE TABLE `probe` (`id` BIGINT PRIMARY KEY)")
	for _, t := range g.tabs {
		g.emitDDL(t.name, rowgen.CreateTable("`"+t.name+"`"))
	}
	g.seq += 8 * 100
	c := dial(fmt.Sprintf("127.0.0.1:%d", *port))
	for c.exec("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '"+*db+"' AND table_name IN ('probe', 't"+strconv.Itoa(*tables-1)+"')") != "2" {
		time.Sleep(20 * time.Millisecond)
	}
	// Short runs are made as a whole before, so that the generator takes no part of the machine; long ones by the minute.
	stretch := min(*duration, time.Minute)
	nextProbe := int64(1)
	count := int64(*duration / *probeEvery) + 2
	sent := make([]atomic.Int64, count+1)
	lags := make([]time.Duration, count+1)
	var seen atomic.Int64
	go func() {
		for seen.Load() < count {
			newest, _ := strconv.ParseInt(c.exec("SELECT MAX(id) FROM "+*db+".probe"), 10, 64)
			now := time.Now()
			for n := seen.Load() + 1; n <= newest; n++ {
				lags[n] = time.Duration(now.UnixNano() - sent[n].Load())
			}
			seen.Store(newest)
			// Asked more often, the question takes a part of the cores.
			time.Sleep(2 * time.Millisecond)
		}
	}()
	var messages []planned
	var begin time.Time
	late := time.Duration(0)
	for from := time.Duration(0); from < *duration; from += stretch {
		messages = messages[:0]
		g.plan(&messages, from, min(from+stretch, *duration), &nextProbe)
		if from == 0 {
			begin = time.Now()
		}
		logical, lastMS := uint64(0), uint64(0)
		for _, m := range messages {
			if wait := time.Until(begin.Add(m.at)); wait > 0 {
				time.Sleep(wait)
			} else {
				late = max(late, -wait)
			}
			now := time.Now()
			ms := uint64(now.UnixMilli())
			if ms != lastMS {
				logical, lastMS = 0, ms
			}
			logical++
			commitTS(m.data, ms<<18|logical)
			if m.probe > 0 {
				sent[m.probe].Store(now.UnixNano())
			}
			send(m.data)
		}
	}
	took := time.Since(begin)
	last := nextProbe - 1
	for end := time.Now().Add(2 * time.Minute); seen.Load() < last && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	offset := finish()
	first := int64(*warmUp / *probeEvery) + 1
	upTo := seen.Load()
	counted := slices.Clone(lags[min(first, upTo+1) : upTo+1])
	slices.Sort(counted)
	at := func(part float64) float64 {
		if len(counted) == 0 {
			return -1
		}
		return float64(counted[min(len(counted)-1, int(float64(len(counted))*part))].Microseconds()) / 1000
	}
	changes := g.stat.Inserts + g.stat.Updates + g.stat.Deletes
	report(map[string]any{"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1), "probes": len(counted), "unseen": last - upTo, "changes": changes,
		"rows_per_second": float64(changes) / took.Seconds(), "sender_late_ms": late.Milliseconds(), "last_offset": offset,
		"tables": g.wanted(), "check_sql": rowgen.CheckSQL})
}
