// The control endpoint lets a test do to the Drainer stage what operators and
// bad days do: POST /drainer/restart, pause, resume, second and reorder, and
// GET /drainer/status. A call returns when its effect holds; answers are JSON.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

func serveControl(port uint, d *drainer) error {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	handle := func(method, path string, f func(*http.Request) (interface{}, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			status := http.StatusOK
			var answer interface{}
			var err error
			if r.Method != method {
				status, err = http.StatusMethodNotAllowed, fmt.Errorf("use %s", method)
			} else if answer, err = f(r); err != nil {
				status = http.StatusConflict
			}
			if err != nil {
				answer = map[string]string{"error": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	status := func(*http.Request) (interface{}, error) { return d.status(), nil }
	handle(http.MethodGet, "/drainer/status", status)
	handle(http.MethodPost, "/drainer/pause", func(r *http.Request) (interface{}, error) { d.pause(); return status(r) })
	handle(http.MethodPost, "/drainer/resume", func(r *http.Request) (interface{}, error) { d.resume(); return status(r) })
	handle(http.MethodPost, "/drainer/second", func(r *http.Request) (interface{}, error) {
		n, err := number(r, "count", 1)
		d.out.twice.Store(n)
		return map[string]int64{"count": n}, err
	})
	handle(http.MethodPost, "/drainer/reorder", func(r *http.Request) (interface{}, error) {
		n, err := number(r, "count", 1)
		d.out.swap.Store(n)
		return map[string]int64{"count": n}, err
	})
	handle(http.MethodPost, "/drainer/restart", func(r *http.Request) (interface{}, error) {
		var back restart
		var err error
		if back.backMS, err = number(r, "back_ms", 0); err != nil {
			return nil, err
		}
		if back.backMessages, err = number(r, "back_messages", 0); err != nil {
			return nil, err
		}
		switch c := r.FormValue("catalog"); c {
		case "", "drainer":
		case "history":
			back.wholeHistory = true
		default:
			return nil, fmt.Errorf("catalog is drainer or history, not %q", c)
		}
		for _, s := range strings.FieldsFunc(r.FormValue("ignore_commit_ts"), func(c rune) bool { return c == ',' }) {
			ts, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("ignore_commit_ts: %w", err)
			}
			back.ignoreTS = append(back.ignoreTS, ts)
		}
		return d.kill(back)
	})
	go func() { _ = http.Serve(listener, mux) }()
	return nil
}

func number(r *http.Request, name string, absent int64) (int64, error) {
	s := r.FormValue(name)
	if s == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is not a count", name, s)
	}
	return n, nil
}

type drainerStatus struct {
	State        string `json:"state"` // running, paused, or stopped where a real Drainer would have exited
	Sent         int64  `json:"sent"`
	LastCommitTS int64  `json:"last_commit_ts"`
	Watermark    int64  `json:"watermark"`
	Fatals       int64  `json:"fatals"`
	LastFatal    string `json:"last_fatal,omitempty"`
}

func (d *drainer) status() drainerStatus {
	return drainerStatus{
		State: d.state.Load().(string), Sent: d.sent.Load(), LastCommitTS: d.lastTS.Load(), Watermark: d.watermark(),
		Fatals: d.fatals.Load(), LastFatal: d.lastFatal.Load().(string),
	}
}
