// The Drainer stage turns the pump's binlogs into the messages of the topic:
// one per transaction, one per finished DDL job, in commit order.
//
// It can be killed and started again like the real one: what was handled stays
// in memory for a while, a restart goes back to an older savepoint, forgets the
// catalog, reads the DDL history as it is by then, and sends that stretch
// again. Exactly one goroutine, the current life, owns the fields marked so;
// control calls touch them only while no life runs.
package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/tidb/ddl"
	"github.com/pingcap/tidb/domain"
	"github.com/pingcap/tidb/kv"
	"github.com/pingcap/tidb/meta"
	"github.com/pingcap/tidb/parser/model"
	pb "github.com/pingcap/tidb/tidb-binlog/proto/go-binlog"
	"github.com/pingcap/tipb/go-binlog"
)

type drainer struct {
	storage     kv.Storage
	dom         *domain.Domain
	pump        *pump
	out         *producer
	ignored     map[string]bool // schemas, lower case
	stopOnFatal bool
	windowLimit int // bytes of handled binlogs kept
	startTS     int64
	startSchema int64 // schema version at the start of this process

	control sync.Mutex // held by a control call
	cancel  context.CancelFunc
	done    chan struct{} // closed when the life has ended; nil before the first

	// owned by the life
	catalog     *catalog
	window      []record // handled ones first
	next        int      // first record not handled
	windowBytes int      // of the handled ones
	schema      int64    // highest schema version handled: a savepoint holds it too
	baseSchema  int64    // the same, before window[0]
	baseTS      int64    // commit_ts before window[0]
	ignoredTS   map[int64]bool

	state     atomic.Value // string: running, paused, stopped
	lastFatal atomic.Value // string
	fatals    atomic.Int64
	sent      atomic.Int64
	lastTS    atomic.Int64
	handled   atomic.Int64 // everything up to here was handed to the producer
	reported  atomic.Int64
}

// record is a binlog of the window; schema and messages are known once it was handled.
type record struct {
	*binlog.Binlog
	schema   int64
	messages int
}

func (r record) bytes() int { return len(r.PrewriteValue) + len(r.DdlQuery) + 256 }

// fatal is a condition on which a real Drainer exits.
type fatal string

func (f fatal) Error() string { return string(f) }

func fatalf(format string, a ...interface{}) error { return fatal(fmt.Sprintf(format, a...)) }

func newDrainer(storage kv.Storage, dom *domain.Domain, p *pump, out *producer) *drainer {
	d := &drainer{storage: storage, dom: dom, pump: p, out: out, ignored: map[string]bool{}, ignoredTS: map[int64]bool{}}
	d.state.Store("paused")
	d.lastFatal.Store("")
	return d
}

func (d *drainer) now() (int64, error) {
	v, err := d.storage.CurrentVersion(kv.GlobalTxnScope)
	return int64(v.Ver), err
}

func (d *drainer) snapshot() (*meta.Meta, int64, error) {
	v, err := d.storage.CurrentVersion(kv.GlobalTxnScope)
	if err != nil {
		return nil, 0, err
	}
	return meta.NewSnapshotMeta(d.storage.GetSnapshot(v)), int64(v.Ver), nil
}

func (d *drainer) history() ([]*model.Job, int64, error) {
	m, ts, err := d.snapshot()
	if err != nil {
		return nil, 0, err
	}
	jobs, err := ddl.GetAllHistoryDDLJobs(m)
	return jobs, ts, err
}

// begin starts the first life, at this moment.
func (d *drainer) begin() error {
	jobs, ts, err := d.history()
	if err != nil {
		return err
	}
	d.catalog = newCatalog(jobs)
	err = d.catalog.advance(math.MaxInt64, func(job *model.Job, err error) bool {
		fmt.Fprintf(os.Stderr, "stack: passed over in the DDL history: %v\n", err)
		return true
	})
	if err != nil {
		return err
	}
	d.startTS, d.startSchema = ts, d.catalog.version
	d.schema, d.baseSchema, d.baseTS = d.startSchema, d.startSchema, ts
	d.live()
	return nil
}

func (d *drainer) live() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan struct{})
	d.state.Store("running")
	go func(done chan struct{}) { defer close(done); d.run(ctx) }(d.done)
}

// halt ends the life between two binlogs. When it returns nothing more is sent.
func (d *drainer) halt() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	<-d.done
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d.out.release(ctx)
}

func (d *drainer) run(ctx context.Context) {
	for ctx.Err() == nil {
		now, err := d.now()
		if err != nil {
			now = 0
		}
		arrived, clean := d.pump.take(now)
		for _, b := range arrived {
			if b.CommitTs > d.startTS {
				d.window = append(d.window, record{Binlog: b})
			}
		}
		for d.next < len(d.window) {
			r := &d.window[d.next]
			err := d.handle(ctx, r)
			if ctx.Err() != nil && err != nil {
				return
			}
			if err != nil {
				d.fatals.Add(1)
				d.lastFatal.Store(fmt.Sprintf("commit_ts %d: %v", r.CommitTs, err))
				fmt.Fprintf(os.Stderr, "stack: a real Drainer would exit at commit_ts %d: %v\n", r.CommitTs, err)
				if d.stopOnFatal {
					d.state.Store("stopped")
					return
				}
			}
			d.pass(r)
			if ctx.Err() != nil {
				return
			}
		}
		if d.out.release(ctx) != nil {
			return
		}
		if clean && now > d.handled.Load() {
			d.handled.Store(now)
		}
		select {
		case <-ctx.Done():
		case <-d.pump.kick:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// pass makes r a handled record and lets the oldest ones go.
func (d *drainer) pass(r *record) {
	r.schema = d.schema
	if r.CommitTs > d.handled.Load() {
		d.handled.Store(r.CommitTs)
	}
	d.windowBytes += r.bytes()
	d.next++
	for d.windowBytes > d.windowLimit && d.next > 0 {
		d.windowBytes -= d.window[0].bytes()
		d.baseSchema, d.baseTS = d.window[0].schema, d.window[0].CommitTs
		d.window[0] = record{}
		d.window = d.window[1:]
		d.next--
	}
}

func (d *drainer) handle(ctx context.Context, r *record) error {
	r.messages = 0
	if d.ignoredTS[r.CommitTs] || r.StartTs == r.CommitTs {
		return nil
	}
	if r.DdlJobId > 0 || len(r.DdlQuery) > 0 {
		return d.handleDDL(ctx, r)
	}
	return d.handleDML(ctx, r)
}

func (d *drainer) handleDML(ctx context.Context, r *record) error {
	var value binlog.PrewriteValue
	if err := value.Unmarshal(r.PrewriteValue); err != nil {
		return fatalf("prewrite value: %v", err)
	}
	if err := d.catalog.advance(value.SchemaVersion, d.tolerate); err != nil {
		return err
	}
	d.reach(value.SchemaVersion)
	msg := &pb.Binlog{Type: pb.BinlogType_DML, CommitTs: r.CommitTs, DmlData: &pb.DMLData{}}
	for i := range value.Mutations {
		m := &value.Mutations[i]
		if d.catalog.truncated[m.TableId] {
			continue
		}
		t := d.catalog.tables[m.TableId]
		if t == nil {
			if d.isSystemTable(m.TableId) {
				continue
			}
			return fatalf("rows of the unknown table id %d", m.TableId)
		}
		if m.TableId > meta.MaxGlobalID || d.ignored[strings.ToLower(t.schema)] {
			continue
		}
		rows, err := translateTable(t, m, value.SchemaVersion, d.catalog.dropping[m.TableId])
		if err != nil {
			return err
		}
		msg.DmlData.Tables = append(msg.DmlData.Tables, rows)
	}
	if len(msg.DmlData.Tables) == 0 {
		return nil
	}
	return d.emit(ctx, r, msg)
}

func (d *drainer) handleDDL(ctx context.Context, r *record) error {
	if bytes.HasPrefix(bytes.ToLower(r.DdlQuery), []byte("select setval")) {
		return nil // the mark of a sequence value; it has no job
	}
	job, err := d.awaitJob(ctx, r.DdlJobId)
	if err != nil {
		return err
	}
	if model.SchemaState(r.DdlSchemaState) == model.StateDeleteOnly {
		job.SchemaState = model.StateDeleteOnly
	}
	if !takesPart(job) || !finished(job) && !dropsColumnSoon(job) {
		return nil
	}
	d.catalog.add(job)
	if err := d.catalog.advance(schemaVersion(job), d.tolerate); err != nil {
		return err
	}
	if dropsColumnSoon(job) {
		return nil
	}
	n, err := d.catalog.claim(job)
	if err != nil {
		return err
	}
	d.reach(schemaVersion(job))
	if d.ignored[strings.ToLower(n.schema)] {
		return nil
	}
	return d.emit(ctx, r, &pb.Binlog{Type: pb.BinlogType_DDL, CommitTs: r.CommitTs,
		DdlData: &pb.DDLData{SchemaName: &n.schema, TableName: &n.table, DdlQuery: r.DdlQuery}})
}

// awaitJob reads a finished job: it enters the history shortly after its
// binlog, and the first event of a DROP COLUMN waits for the whole job.
func (d *drainer) awaitJob(ctx context.Context, id int64) (*model.Job, error) {
	for {
		if m, _, err := d.snapshot(); err == nil {
			if job, err := m.GetHistoryDDLJob(id); err == nil && job != nil {
				return job, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (d *drainer) reach(schema int64) {
	if schema > d.schema {
		d.schema = schema
	}
}

// tolerate passes over what already could not be applied when the process started.
func (d *drainer) tolerate(job *model.Job, _ error) bool { return schemaVersion(job) <= d.startSchema }

func (d *drainer) isSystemTable(id int64) bool {
	schemas := d.dom.InfoSchema()
	if t, ok := schemas.TableByID(id); ok {
		if db, ok := schemas.SchemaByTable(t.Meta()); ok {
			return d.ignored[db.Name.L]
		}
	}
	return id > meta.MaxGlobalID
}

func (d *drainer) emit(ctx context.Context, r *record, m *pb.Binlog) error {
	value, err := m.Marshal()
	if err != nil {
		return fatalf("marshal: %v", err)
	}
	if err := d.out.send(ctx, m.CommitTs, value); err != nil {
		return err
	}
	r.messages = 1
	d.sent.Add(1)
	d.lastTS.Store(m.CommitTs)
	return nil
}

// watermark: every message up to it is acknowledged by Kafka. It never goes back.
func (d *drainer) watermark() int64 {
	w := d.handled.Load() // before asking for what is unacknowledged
	if oldest := d.out.oldestUnacked(); oldest > 0 && oldest <= w {
		w = oldest - 1
	}
	for {
		old := d.reported.Load()
		if w <= old {
			return old
		}
		if d.reported.CompareAndSwap(old, w) {
			return w
		}
	}
}
