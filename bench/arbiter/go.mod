// The peer of incremental sync: TiDB Binlog's own consumer of the topic, at the one version that module proxies serve.
module arbiter

go 1.16

require github.com/pingcap/tidb-binlog v0.0.0-20191010021753-8e49c63b7528
