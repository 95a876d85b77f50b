package main

// A target far away: each piece goes on as late as half the round-trip time, both ways, in order and at full speed.

import (
	"flag"
	"fmt"
	"io"
	"net"
	"time"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "proxy: address")
	oneWay = flag.Duration("one-way", 12500*time.Microsecond, "proxy: delay each way")
)

func proxyMain() {
	l, err := net.Listen("tcp", *listen)
	must(err)
	report(map[string]any{"port": l.Addr().(*net.TCPAddr).Port})
	for {
		near, err := l.Accept()
		must(err)
		far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
		if err != nil {
			near.Close()
			continue
		}
		go late(near, far)
		go late(far, near)
	}
}

type piece struct {
	due  time.Time
	data []byte
}

// late copies; up to 64 MiB are under way, so it is the delay that is felt and not a narrow pipe.
func late(from, to net.Conn) {
	under := make(chan piece, 1024)
	go func() {
		defer close(under)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				under <- piece{time.Now().Add(*oneWay), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range under {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		c.CloseWrite()
	}
	for range under { // a reader that still waits for room must end
	}
	io.Copy(io.Discard, from)
	from.Close()
}
