// Command tidb is a real TiDB server over its embedded storage, with binlog
// switched on, a pump in the process and a Drainer stage that writes to Kafka.
//
// Everything listens on 127.0.0.1, data stays under -dir, the environment's TZ
// is the zone of TiDB and Drainer. On SIGTERM it takes no more connections,
// sends what was committed, closes the storage and ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pingcap/tidb/config"
	ddlutil "github.com/pingcap/tidb/ddl/util"
	"github.com/pingcap/tidb/kv"
	"github.com/pingcap/tidb/server"
	"github.com/pingcap/tidb/session"
	"github.com/pingcap/tidb/sessionctx/binloginfo"
	"github.com/pingcap/tidb/sessionctx/variable"
	"github.com/pingcap/tidb/store"
	"github.com/pingcap/tidb/store/mockstore"
	"github.com/pingcap/tidb/util/logutil"

	_ "time/tzdata"

	_ "github.com/pingcap/tidb/autoid_service"
)

var (
	port         = flag.Uint("port", 4000, "MySQL port")
	statusPort   = flag.Uint("status-port", 4010, "HTTP status port of TiDB")
	etcdPort     = flag.Int("etcd-port", 4020, "port of the node registry")
	etcdPeerPort = flag.Int("etcd-peer-port", 4021, "second port of the node registry")
	controlPort  = flag.Uint("control-port", 4030, "HTTP control of the Drainer stage")
	dir          = flag.String("dir", "", "folder of data and logs")
	brokers      = flag.String("kafka", "127.0.0.1:9092", "brokers, comma separated")
	topic        = flag.String("topic", "tidb_obinlog", "topic")
	kafkaVersion = flag.String("kafka-version", "0.8.2.0", "protocol of the producer; Drainer's default writes messages without a timestamp")
	onFatal      = flag.String("on-drainer-fatal", "stop", "stop or skip, where a real Drainer would exit")
	ignore       = flag.String("ignore-schemas", "INFORMATION_SCHEMA,PERFORMANCE_SCHEMA,mysql", "Drainer's ignore-schemas")
	window       = flag.Int("window-mib", 64, "handled binlogs kept for restarts, MiB")
	lease        = flag.Duration("lease", time.Second, "DDL schema lease")
	newCollation = flag.Bool("new-collation", true, "at the first start: false makes every collation compare bytes (new_collations_enabled_on_first_bootstrap)")
	sslCert      = flag.String("ssl-cert", "", "certificate with which TiDB takes TLS too")
	sslKey       = flag.String("ssl-key", "", "its key")
	logLevel     = flag.String("log-level", "warn", "log level of TiDB")
)

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "stack: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	flag.Parse()
	must(run(), "tidb")
}

func run() error {
	if *dir == "" {
		return fmt.Errorf("-dir is needed")
	}
	root, err := filepath.Abs(*dir) // it becomes part of the store's URL
	if err != nil {
		return err
	}
	must(os.MkdirAll(root, 0o755), "folder")
	cfg := configure(root)

	registry, err := startRegistry(filepath.Join(root, "etcd"), *etcdPort, *etcdPeerPort)
	must(err, "node registry")
	must(store.Register("unistore", mockstore.EmbedUnistoreDriver{}), "storage driver")
	storage, err := store.New("unistore://" + filepath.Join(root, "store"))
	must(err, "open the storage")

	// The pump must be in place before the domain, whose DDL worker takes it once.
	p := newPump()
	binloginfo.SetPumpsClient(binloginfo.MockPumpsClient(p))
	dom, err := session.BootstrapSession(storage)
	must(err, "bootstrap")
	must(settle(storage), "settings")

	out, err := newProducer(strings.Split(*brokers, ","), *topic, *kafkaVersion)
	must(err, "kafka producer")
	d := newDrainer(storage, dom, p, out)
	d.stopOnFatal = *onFatal == "stop"
	d.windowLimit = *window << 20
	for _, s := range strings.Split(*ignore, ",") {
		d.ignored[strings.ToLower(strings.TrimSpace(s))] = true
	}
	must(d.begin(), "DDL history")
	go heartbeat(registry, d)

	svr, err := server.NewServer(cfg, server.NewTiDBDriver(storage))
	must(err, "server")
	svr.SetDomain(dom)
	svr.InitGlobalConnID(dom.ServerID)
	dom.InfoSyncer().SetSessionManager(svr)
	go dom.ExpensiveQueryHandle().SetSessionManager(svr).Run()
	must(serveControl(*controlPort, d), "control endpoint")

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	var closing atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-stop
		closing.Store(true)
		endConnections(svr)
		p.quiet(5 * time.Second)
		d.finish(15 * time.Second)
		dom.Close()
		_ = storage.Close()
		fmt.Printf("stack: ended, %d messages, %d times a real Drainer would have exited\n", d.sent.Load(), d.fatals.Load())
	}()
	fmt.Printf("stack: TiDB on 127.0.0.1:%d, zone %s, pid %d\n", *port, time.Local, os.Getpid())
	if err := svr.Run(); err != nil && !closing.Load() {
		return err
	}
	<-ended
	return nil
}

// endConnections lets every statement come to its end, within reason: TiDB
// writes a rollback binlog for a commit that is cut off, even if it took place,
// and the row's message would be missing.
func endConnections(svr *server.Server) {
	svr.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	done := make(chan struct{}, 1)
	go svr.GracefulDown(ctx, done)
	select {
	case <-done:
	case <-ctx.Done():
		svr.KillAllConnections()
	}
}

func configure(root string) *config.Config {
	cfg := config.GetGlobalConfig()
	cfg.Host, cfg.AdvertiseAddress, cfg.Port = "127.0.0.1", "127.0.0.1", *port
	cfg.Socket = ""
	cfg.Store = "unistore"
	cfg.Path = fmt.Sprintf("127.0.0.1:%d", *etcdPort) // read by SHOW PUMP STATUS and SHOW DRAINER STATUS only
	cfg.Status.ReportStatus, cfg.Status.StatusHost, cfg.Status.StatusPort = true, "127.0.0.1", *statusPort
	cfg.Binlog.Enable = true
	cfg.Lease = lease.String()
	cfg.Security.SSLCert, cfg.Security.SSLKey = *sslCert, *sslKey
	cfg.Log.Level = *logLevel
	cfg.Log.File.Filename = filepath.Join(root, "tidb.log")
	cfg.Log.SlowQueryFile = filepath.Join(root, "slow.log")
	cfg.TempStoragePath = filepath.Join(root, "tmp")
	cfg.TiKVClient.AsyncCommit.SafeWindow = 0
	cfg.Performance.RunAutoAnalyze = false
	cfg.NewCollationsEnabledOnFirstBootstrap = *newCollation
	config.StoreGlobalConfig(cfg)
	must(logutil.InitLogger(cfg.Log.ToLogConfig()), "logger")

	variable.SetSysVar(variable.LogBin, variable.On)
	variable.SetSysVar(variable.Port, fmt.Sprint(*port))
	variable.SetSysVar(variable.DataDir, root)
	variable.SetSysVar(variable.TiDBSlowQueryFile, cfg.Log.SlowQueryFile)
	session.SetSchemaLease(*lease)
	session.SetStatsLease(0)
	kv.TxnTotalSizeLimit = config.SuperLargeTxnSize
	kv.TxnEntrySizeLimit = 120 << 20
	return cfg
}

// settle makes RECOVER TABLE, FLASHBACK and tidb_snapshot work: they ask for a
// GC safe point, and no emulated delete-range may run ahead of them. What only
// burns CPU in a test goes off.
func settle(storage kv.Storage) error {
	ddlutil.EmulatorGCDisable()
	se, err := session.CreateSession(storage)
	if err != nil {
		return err
	}
	defer se.Close()
	ctx := kv.WithInternalSourceType(context.Background(), "stack")
	for _, q := range []string{
		`REPLACE HIGH_PRIORITY INTO mysql.tidb VALUES ('tikv_gc_safe_point', '20060102-15:04:05 -0700', '')`,
		`REPLACE HIGH_PRIORITY INTO mysql.tidb VALUES ('tikv_gc_enable', 'true', '')`,
		`SET GLOBAL tidb_enable_auto_analyze = OFF`,
		`SET GLOBAL tidb_ttl_job_enable = OFF`,
	} {
		if _, err := se.ExecuteInternal(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}
