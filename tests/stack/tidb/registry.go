// The registry is an embedded etcd with the node records that TiDB's SHOW PUMP
// STATUS and SHOW DRAINER STATUS read (normally from PD). It keeps nothing
// over a restart.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/pingcap/tidb/tidb-binlog/node"
	"github.com/pingcap/tidb/util/etcd"
	"go.etcd.io/etcd/server/v3/embed"
)

func startRegistry(dir string, port, peerPort int) (*node.EtcdRegistry, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	client := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	peer := url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", peerPort)}
	c := embed.NewConfig()
	c.Dir = dir
	c.LogLevel = "error"
	c.UnsafeNoFsync = true
	c.TickMs, c.ElectionMs = 250, 2500 // one member: fewer ticks, less idle CPU
	c.LCUrls, c.ACUrls = []url.URL{client}, []url.URL{client}
	c.LPUrls, c.APUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		return nil, errors.New("etcd is not ready after 20 s")
	}
	cli, err := etcd.NewClientFromCfg([]string{client.Host}, 5*time.Second, node.DefaultRootPath, nil)
	if err != nil {
		return nil, err
	}
	return node.NewEtcdRegistry(cli, 5*time.Second), nil
}

// heartbeat refreshes both node records once a second, as Drainer and Pump do.
// A Drainer that is paused or stopped keeps its last record.
func heartbeat(registry *node.EtcdRegistry, d *drainer) {
	for ; ; time.Sleep(time.Second) {
		now, err := d.now()
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = registry.UpdateNode(ctx, node.NodePrefix[node.PumpNode], &node.Status{
			NodeID: "stack:8250", Addr: "127.0.0.1:8250", State: node.Online, IsAlive: true, MaxCommitTS: now, UpdateTS: now})
		if d.state.Load() == "running" || d.reported.Load() == 0 {
			_ = registry.UpdateNode(ctx, node.NodePrefix[node.DrainerNode], &node.Status{
				NodeID: "stack:8249", Addr: "127.0.0.1:8249", State: node.Online, IsAlive: true, MaxCommitTS: d.watermark(), UpdateTS: now})
		}
		cancel()
	}
}
