// What bench/bench.py needs besides a server: topics, filled databases, ceilings, a distant target.
//
//	tool gen      writes a topic of Drainer's messages, deterministic by seed
//	tool ceiling  folds the same changes beforehand and sends them from memory
//	tool rows     fills a server with rows by INSERT
//	tool load     LOAD DATA LOCAL of the same rows from memory
//	tool read     reads them
//	tool proxy    a TCP proxy that answers late
//	tool lag      changes at a steady rate, and when each is seen in the target
//
// Each prints one JSON object as its last line.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
)

var commands = map[string]func(){"gen": genMain, "ceiling": ceilingMain, "rows": rowsMain, "load": loadMain, "read": readMain, "proxy": proxyMain, "lag": lagMain}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		log.Fatal("tool gen|ceiling|rows|load|read|proxy|lag [flags]")
	}
	log.SetPrefix("tool " + os.Args[1] + ": ")
	must(flag.CommandLine.Parse(os.Args[2:]))
	commands[os.Args[1]]()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func report(fields map[string]any) {
	j, err := json.Marshal(fields)
	must(err)
	fmt.Println(string(j))
}
