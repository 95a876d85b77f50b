// The pump takes TiDB's binlogs and pairs them: take hands out committed
// transactions and DDL events in commit order, each once, and never one that a
// transaction still in flight could precede. It lives in this process, so
// there is no socket and no message size limit.
package main

import (
	"context"
	"errors"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/pingcap/tipb/go-binlog"
	"google.golang.org/grpc"
)

// orphanAge is how long a prewrite may wait for its commit or rollback.
const orphanAge = 2 * time.Minute

type pump struct {
	mu       sync.Mutex
	inFlight map[int64]prewrite // by start_ts
	ready    []*binlog.Binlog   // committed, not handed out yet
	kick     chan struct{}      // a token whenever something arrived
	last     time.Time          // when something arrived last
}

type prewrite struct {
	binlog *binlog.Binlog
	at     time.Time
}

func newPump() *pump {
	return &pump{inFlight: map[int64]prewrite{}, kick: make(chan struct{}, 1)}
}

// PullBinlogs belongs to the client interface of a pump; nobody calls it here.
func (p *pump) PullBinlogs(context.Context, *binlog.PullBinlogReq, ...grpc.CallOption) (binlog.Pump_PullBinlogsClient, error) {
	return nil, errors.New("the in-process pump is read directly")
}

func (p *pump) WriteBinlog(_ context.Context, in *binlog.WriteBinlogReq, _ ...grpc.CallOption) (*binlog.WriteBinlogResp, error) {
	b := &binlog.Binlog{}
	if err := b.Unmarshal(in.Payload); err != nil {
		return &binlog.WriteBinlogResp{Errmsg: err.Error()}, nil
	}
	p.mu.Lock()
	p.last = time.Now()
	switch b.Tp {
	case binlog.BinlogType_Prewrite:
		p.inFlight[b.StartTs] = prewrite{b, time.Now()}
	case binlog.BinlogType_Commit:
		if w, ok := p.inFlight[b.StartTs]; ok {
			delete(p.inFlight, b.StartTs)
			w.binlog.Tp, w.binlog.CommitTs = b.Tp, b.CommitTs
			p.ready = append(p.ready, w.binlog)
		}
	case binlog.BinlogType_Rollback:
		delete(p.inFlight, b.StartTs)
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return &binlog.WriteBinlogResp{}, nil
}

// take returns what nothing in flight can precede: a prewrite binlog is
// written before its commit_ts is allocated, so only transactions in flight
// with a smaller start_ts matter. clean says that nothing that could commit at
// or before now is left behind.
func (p *pump) take(now int64) (out []*binlog.Binlog, clean bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := int64(math.MaxInt64)
	for start, w := range p.inFlight {
		if time.Since(w.at) > orphanAge {
			delete(p.inFlight, start)
		} else if start < limit {
			limit = start
		}
	}
	sort.Slice(p.ready, func(i, j int) bool { return p.ready[i].CommitTs < p.ready[j].CommitTs })
	n := sort.Search(len(p.ready), func(i int) bool { return p.ready[i].CommitTs >= limit })
	out = p.ready[:n:n]
	p.ready = append([]*binlog.Binlog(nil), p.ready[n:]...)
	return out, len(p.ready) == 0 && limit > now
}

func (p *pump) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready)
}

// quiet waits until no transaction is in flight and none has come for a while:
// TiDB writes the commit binlog after it has answered the client.
func (p *pump) quiet(limit time.Duration) {
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(20 * time.Millisecond) {
		p.mu.Lock()
		still := len(p.inFlight) == 0 && time.Since(p.last) > 300*time.Millisecond
		p.mu.Unlock()
		if still && time.Since(begin) > 300*time.Millisecond {
			return
		}
	}
}
