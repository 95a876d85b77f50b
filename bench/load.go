package main

// The full sync's rows: sent into a server by INSERT or LOAD DATA LOCAL, and read from it.

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"

	"bench/rowgen"
)

var total = flag.Int64("total", 0, "rows, load: rows in all, over -tables tables")

func escTSV(dst, src []byte) []byte {
	for _, c := range src {
		if c == '\\' || c == '\t' || c == '\n' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// share gives the lane's pieces of all tables: table, first and last id.
func share(lane int, size int64, do func(ti int, first, last int64)) {
	per := *total / int64(*tables)
	n := 0
	for ti := range *tables {
		for first := int64(1); first <= per; first += size {
			if n++; n%*conns == lane {
				do(ti, first, min(first+size-1, per))
			}
		}
	}
}

func sums() map[string]want {
	out := map[string]want{}
	var buf []byte
	for ti := range *tables {
		w := want{Rows: uint64(*total / int64(*tables))}
		for id := int64(1); id <= int64(w.Rows); id++ {
			r := rowgen.Make(*seed, ti, id, 0)
			var c uint32
			c, buf = r.Sum(buf)
			w.CRC += uint64(c)
		}
		out[fmt.Sprintf("%s.t%d", *db, ti)] = w
	}
	return out
}

// rowsMain fills -tables tables of a server over -conns connections.
func rowsMain() {
	createTables(dial(fmt.Sprintf("127.0.0.1:%d", *port)))
	took := each(func(c *conn, lane int) {
		share(lane, int64(*stmtRows), func(ti int, first, last int64) {
			b := append(make([]byte, 4), fmt.Sprintf("\x03INSERT INTO %s.t%d VALUES ", *db, ti)...)
			for id := first; id <= last; id++ {
				if id > first {
					b = append(b, ',')
				}
				b = values(b, rowgen.Make(*seed, ti, id, 0))
			}
			c.raw(finished(b), "INSERT")
		})
	})
	reportRows(took, *total, map[string]any{"tables": sums(), "check_sql": rowgen.CheckSQL})
}

// loadMain is the ceiling of full sync: the same rows from memory.
func loadMain() {
	createTables(dial(fmt.Sprintf("127.0.0.1:%d", *port)))
	const piece = 50_000
	type part struct {
		table int
		tsv   []byte
	}
	parts := make([][]part, *conns)
	for lane := range *conns {
		share(lane, piece, func(ti int, first, last int64) {
			var b []byte
			for id := first; id <= last; id++ {
				r := rowgen.Make(*seed, ti, id, 0)
				b = append(r.Append(b, '\t', `\N`, escTSV), '\n')
			}
			parts[lane] = append(parts[lane], part{ti, b})
		})
	}
	took := each(func(c *conn, lane int) {
		for _, p := range parts[lane] {
			c.infile = func(string) io.Reader { return bytes.NewReader(p.tsv) }
			c.exec(fmt.Sprintf("LOAD DATA LOCAL INFILE 'x' INTO TABLE %s.t%d CHARACTER SET utf8mb4", *db, p.table))
		}
	})
	reportRows(took, *total, nil)
}

// readMain is what the source gives at best: its tables by ranges of the key, one range after the other on each connection.
func readMain() {
	counts := make([]int64, *conns)
	took := each(func(c *conn, lane int) {
		share(lane, 50_000, func(ti int, first, last int64) {
			counts[lane] += c.rows(fmt.Sprintf("SELECT * FROM %s.t%d WHERE id BETWEEN %d AND %d", *db, ti, first, last))
		})
	})
	read := int64(0)
	for _, n := range counts {
		read += n
	}
	reportRows(took, read, nil)
}

func reportRows(took map[string]any, rows int64, more map[string]any) {
	took["rows"], took["rows_per_second"] = rows, float64(rows)/took["seconds"].(float64)
	maps.Copy(took, more)
	report(took)
}
