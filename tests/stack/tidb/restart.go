// Killing, pausing and resuming the Drainer stage. A kill is what kill -9 and a
// new start do to a real Drainer: it goes back to an older savepoint (a
// commit_ts with the schema version handled by then), forgets its catalog and
// reads the DDL history as of now.
package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/pingcap/tipb/go-binlog"
)

// restart is a savepoint to go back to, in one of two measures.
type restart struct {
	backMS, backMessages int64
	wholeHistory         bool // apply every job of the history at once
	ignoreTS             []int64
}

type restarted struct {
	Savepoint     int64 `json:"savepoint"`
	SchemaVersion int64 `json:"schema_version"`
	Resent        int   `json:"resent"` // messages sent before that will be sent again
	Unsent        int   `json:"unsent"` // binlogs not handled yet
	Clipped       bool  `json:"clipped"`
}

// reached says that the savepoint lies right after the record.
func (r restart) reached(last record, resent int, savepoint int64) bool {
	if r.backMessages > 0 {
		return int64(resent) >= r.backMessages
	}
	return last.CommitTs <= savepoint
}

// kill ends the life and starts the next one at an older savepoint. Messages
// in flight to Kafka are awaited first, so that what repeats is exactly that
// stretch.
func (d *drainer) kill(r restart) (restarted, error) {
	d.control.Lock()
	defer d.control.Unlock()
	jobs, now, err := d.history() // as of now, not as of the savepoint
	if err != nil {
		return restarted{}, err
	}
	d.halt()
	if !d.out.settle(10 * time.Second) {
		d.live()
		return restarted{}, errors.New("kafka does not acknowledge: the drainer goes on where it was")
	}
	savepoint := now - r.backMS<<18
	back := restarted{Unsent: len(d.window) - d.next + d.pump.waiting()}
	for d.next > 0 {
		last := d.window[d.next-1]
		if r.reached(last, back.Resent, savepoint) {
			break
		}
		d.next--
		d.windowBytes -= last.bytes()
		back.Resent += last.messages
	}
	back.Clipped = d.next == 0 && d.baseTS > d.startTS && !r.reached(record{Binlog: &binlog.Binlog{CommitTs: d.baseTS}}, back.Resent, savepoint)
	d.schema, back.Savepoint = d.baseSchema, d.baseTS
	if d.next > 0 {
		d.schema, back.Savepoint = d.window[d.next-1].schema, d.window[d.next-1].CommitTs
	}
	back.SchemaVersion = d.schema

	d.catalog = newCatalog(jobs)
	known := d.schema
	if r.wholeHistory {
		known = math.MaxInt64
	}
	if err := d.catalog.advance(known, d.tolerate); err != nil {
		d.fatals.Add(1)
		d.lastFatal.Store(fmt.Sprintf("at the start: %v", err))
		if d.stopOnFatal {
			d.cancel = nil
			d.state.Store("stopped")
			return back, err
		}
	}
	for _, ts := range r.ignoreTS {
		d.ignoredTS[ts] = true
	}
	d.live()
	return back, nil
}

func (d *drainer) pause() {
	d.control.Lock()
	defer d.control.Unlock()
	d.halt()
	if d.state.Load() == "running" {
		d.state.Store("paused")
	}
}

// resume goes on where the last life was paused; a stopped one needs a restart.
func (d *drainer) resume() {
	d.control.Lock()
	defer d.control.Unlock()
	if d.state.Load() == "paused" {
		d.live()
	}
}

// finish sends what was committed before the call, at most for the given time.
func (d *drainer) finish(limit time.Duration) {
	d.resume()
	now, err := d.now()
	if err != nil {
		return
	}
	for end := time.Now().Add(limit); time.Now().Before(end) && d.state.Load() == "running"; time.Sleep(20 * time.Millisecond) {
		if d.watermark() >= now {
			break
		}
	}
	d.pause()
	d.out.close()
}
