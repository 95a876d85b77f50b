package main

// What the target takes at best of a topic's changes: folded beforehand in windows of as many message bytes as a batch of
// Tidegate's, written as statements, and sent from memory by a loop that does nothing else. A key keeps its connection, so
// connections need not wait for each other.

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"bench/rowgen"
)

var (
	port      = flag.Int("port", 0, "port of the server on 127.0.0.1")
	conns     = flag.Int("conns", 1, "connections")
	prepared  = flag.Bool("prepared", false, "prepared REPLACE instead of text")
	foldBytes = flag.Int64("fold-bytes", 16<<20, "message bytes that are folded into one image per key")
	watchPid  = flag.Int("watch-pid", 0, "process whose CPU seconds count while statements run")
	stmtRows  = flag.Int("statement-rows", 1000, "rows of one statement, at most")
)

func quote(dst, src []byte) []byte {
	dst = append(dst, '\'')
	for _, c := range src {
		if c == '\\' || c == '\'' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '\'')
}

func values(b []byte, r rowgen.Row) []byte {
	r.Amount, r.Created, r.Updated = "'"+r.Amount+"'", "'"+r.Created+"'", "'"+r.Updated+"'"
	return append(r.Append(append(b, '('), ',', "NULL", quote), ')')
}

func lenenc(b []byte, s string) []byte {
	if len(s) < 251 {
		b = append(b, byte(len(s)))
	} else {
		b = append(b, 0xfc, byte(len(s)), byte(len(s)>>8))
	}
	return append(b, s...)
}

const typeLong, typeShort, typeDouble, typeLonglong, typeString = 3, 2, 5, 8, 253

// binaryRow appends the row as parameters of a prepared statement; nulls begin at parameter at.
func binaryRow(b []byte, nulls []byte, at int, r rowgen.Row) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(r.ID))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.K))
	b = binary.LittleEndian.AppendUint32(b, r.Cnt)
	b = binary.LittleEndian.AppendUint16(b, uint16(r.Small))
	b = lenenc(lenenc(lenenc(b, r.Amount), r.Name), r.Code)
	if r.Note == nil {
		nulls[(at+7)/8] |= 1 << ((at + 7) % 8)
	} else {
		b = lenenc(b, string(r.Note))
	}
	b = lenenc(lenenc(b, r.Created), r.Updated)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Score))
	return lenenc(b, string(r.Doc))
}

var paramTypes = []byte{typeLonglong, 0, typeLong, 0, typeLong, 0x80, typeShort, 0, typeString, 0, typeString, 0, typeString, 0, typeString, 0,
	typeString, 0, typeString, 0, typeDouble, 0, typeString, 0}

// statement is one packet; with sql it is an execution of that prepared statement.
type statement struct {
	packet []byte
	sql    string
}

func finished(b []byte) []byte {
	n := len(b) - 4
	b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16)
	return b
}

func upsert(ti int, rows []rowgen.Row) statement {
	name := fmt.Sprintf("%s.t%d", *db, ti)
	if !*prepared {
		b := append(make([]byte, 4, len(rows)*360), "\x03REPLACE INTO "+name+" VALUES "...)
		for i, r := range rows {
			if i > 0 {
				b = append(b, ',')
			}
			b = values(b, r)
		}
		return statement{packet: finished(b)}
	}
	b := append(make([]byte, 4, len(rows)*320), 23, 0, 0, 0, 0, 0, 1, 0, 0, 0)
	width := len(rowgen.Cols)
	nulls := make([]byte, (len(rows)*width+7)/8)
	at := len(b)
	b = append(append(b, nulls...), 1)
	for range rows {
		b = append(b, paramTypes...)
	}
	for i, r := range rows {
		b = binaryRow(b, nulls, i*width, r)
	}
	copy(b[at:], nulls)
	one := "(" + strings.Repeat("?,", width-1) + "?)"
	return statement{finished(b), "REPLACE INTO " + name + " VALUES " + strings.Repeat(one+",", len(rows)-1) + one}
}

func remove(ti int, ids []int64) statement {
	b := append(make([]byte, 4, len(ids)*10+64), fmt.Sprintf("\x03DELETE FROM %s.t%d WHERE id IN (", *db, ti)...)
	for i, id := range ids {
		b = fmt.Appendf(b, "%s%d", ","[:min(i, 1)], id)
	}
	return statement{packet: finished(append(b, ')'))}
}

// fold gives each connection's statements in order.
func fold() ([][]statement, *gen, map[string]any) {
	lanes := make([][]statement, *conns)
	type key struct {
		table int
		id    int64
	}
	var g *gen
	last := map[key]change{}
	written, windows, size := 0, 0, int64(0)
	flush := func() {
		written += len(last)
		windows++
		sorted := make([]change, 0, len(last))
		for _, c := range last {
			sorted = append(sorted, c)
		}
		sort.Slice(sorted, func(a, b int) bool { return sorted[a].id < sorted[b].id })
		for ti := range *tables {
			ups, dels := make([][]rowgen.Row, *conns), make([][]int64, *conns)
			for _, c := range sorted {
				lane := int(c.id) % *conns
				switch {
				case c.table != ti:
				case c.gone:
					dels[lane] = append(dels[lane], c.id)
				default:
					ups[lane] = append(ups[lane], rowgen.Make(*seed, ti, c.id, c.version))
				}
			}
			for lane := range *conns {
				for rest := dels[lane]; len(rest) > 0; {
					n := min(len(rest), *stmtRows)
					lanes[lane] = append(lanes[lane], remove(ti, rest[:n]))
					rest = rest[n:]
				}
				for rest := ups[lane]; len(rest) > 0; {
					n := min(len(rest), *stmtRows)
					if *prepared && n < *stmtRows {
						n = max(n/32*32, 1) // few different statements
					}
					lanes[lane] = append(lanes[lane], upsert(ti, rest[:n]))
					rest = rest[n:]
				}
			}
		}
		clear(last)
		size = 0
	}
	g = newGen(func(message []byte) {
		for _, c := range g.changes {
			last[key{c.table, c.id}] = c
		}
		if size += int64(len(message)); size >= *foldBytes {
			flush()
		}
	})
	g.run()
	flush()
	count := 0
	for _, l := range lanes {
		count += len(l)
	}
	return lanes, g, map[string]any{"rows_written": written, "windows": windows, "statements": count}
}

// cpuSeconds is what a process has had so far; 0 is this one.
func cpuSeconds(pid int) float64 {
	name := "self"
	if pid > 0 {
		name = strconv.Itoa(pid)
	}
	text, err := os.ReadFile("/proc/" + name + "/stat")
	must(err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}

// each runs f on every connection at once and gives the seconds that it took, of the clock and of the CPU.
func each(f func(c *conn, lane int)) map[string]any {
	cs := make([]*conn, *conns)
	for i := range cs {
		cs[i] = dial(fmt.Sprintf("127.0.0.1:%d", *port))
	}
	var wg sync.WaitGroup
	own, server, start := cpuSeconds(0), cpuSeconds(*watchPid), time.Now()
	for i, c := range cs {
		wg.Go(func() { f(c, i) })
	}
	wg.Wait()
	return map[string]any{"seconds": time.Since(start).Seconds(), "cpu_seconds": cpuSeconds(0) - own, "mariadb_cpu_seconds": cpuSeconds(*watchPid) - server, "conns": *conns}
}

func createTables(c *conn) {
	c.exec("CREATE DATABASE IF NOT EXISTS " + *db)
	for i := range *tables {
		name := fmt.Sprintf("%s.t%d", *db, i)
		c.exec("DROP TABLE IF EXISTS " + name)
		c.exec(rowgen.CreateTable(name))
	}
}

func ceilingMain() {
	createTables(dial(fmt.Sprintf("127.0.0.1:%d", *port)))
	lanes, g, facts := fold()
	took := each(func(c *conn, lane int) {
		ids := map[string]uint32{}
		for _, s := range lanes[lane] {
			if s.sql != "" {
				id, ok := ids[s.sql]
				if !ok {
					id = c.prepare(s.sql)
					ids[s.sql] = id
				}
				binary.LittleEndian.PutUint32(s.packet[5:], id)
			}
			c.raw(s.packet, "statement")
		}
	})
	changes := g.stat.Inserts + g.stat.Updates + g.stat.Deletes
	maps.Copy(facts, took)
	facts["changes"], facts["rows_per_second"], facts["prepared"] = changes, float64(changes)/took["seconds"].(float64), *prepared
	report(facts)
}
