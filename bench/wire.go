package main

// Just enough of MySQL's protocol to send statements that were made before: a client library would cost more than the
// statements.

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
)

type conn struct {
	net.Conn
	r *bufio.Reader
	// Answers LOAD DATA LOCAL.
	infile func(name string) io.Reader
}

const (
	longPassword, localFiles, protocol41, secureConnection, pluginAuth = 1, 1 << 7, 1 << 9, 1 << 15, 1 << 19
)

// dial logs in as root without a password.
func dial(address string) *conn {
	c, err := net.Dial("tcp", address)
	must(err)
	s := &conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	s.packet()
	b := binary.LittleEndian.AppendUint32(nil, longPassword|localFiles|protocol41|secureConnection|pluginAuth)
	b = binary.LittleEndian.AppendUint32(b, 1<<24-1)
	b = append(b, 45) // utf8mb4
	b = append(append(b, make([]byte, 23)...), "root\x00\x00mysql_native_password\x00"...)
	s.send(1, b)
	s.answer("login")
	s.exec("SET NAMES utf8mb4, time_zone = '+00:00'")
	return s
}

func (c *conn) send(seq byte, payload []byte) {
	_, err := c.Write(append([]byte{byte(len(payload)), byte(len(payload) >> 8), byte(len(payload) >> 16), seq}, payload...))
	must(err)
}

func (c *conn) packet() []byte {
	b, _ := c.numbered()
	return b
}

func (c *conn) numbered() ([]byte, byte) {
	var head [4]byte
	_, err := io.ReadFull(c.r, head[:])
	must(err)
	b := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	_, err = io.ReadFull(c.r, b)
	must(err)
	return b, head[3]
}

// answer reads OK, or rows of one column, of which it gives the last.
func (c *conn) answer(what string) string {
	b, seq := c.numbered()
	switch {
	case b[0] == 0xff:
		fail(what, b)
	case b[0] == 0xfb:
		c.upload(c.infile(string(b[1:])), seq)
		return c.answer(what)
	case b[0] != 0 && b[0] != 0xfe:
		for range b[0] {
			c.packet()
		}
		c.packet() // EOF
		value := ""
		for {
			row := c.packet()
			switch {
			case row[0] == 0xff:
				fail(what, row)
			case row[0] == 0xfe && len(row) < 9:
				return value
			case row[0] == 0xfb:
				value = ""
			default:
				value = string(row[1 : 1+int(row[0])]) // short values only
			}
		}
	}
	return ""
}

// rows reads a result and throws it away.
func (c *conn) rows(sql string) int64 {
	c.send(0, append([]byte{3}, sql...))
	b := c.packet()
	if b[0] == 0xff {
		fail(sql, b)
	}
	for range int(b[0]) + 1 { // columns, EOF
		c.packet()
	}
	for n := int64(0); ; n++ {
		head, err := c.r.Peek(5)
		must(err)
		size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		if head[4] == 0xfe && size < 9 || head[4] == 0xff {
			if b := c.packet(); b[0] == 0xff {
				fail(sql, b)
			}
			return n
		}
		_, err = c.r.Discard(4 + size)
		must(err)
	}
}

func fail(what string, b []byte) {
	fmt.Fprintf(os.Stderr, "%.200s: error %d: %.300s\n", what, binary.LittleEndian.Uint16(b[1:]), b[3:])
	os.Exit(1)
}

func (c *conn) upload(r io.Reader, seq byte) {
	buf := make([]byte, 4+1<<20)
	for {
		n, err := io.ReadFull(r, buf[4:])
		if n > 0 {
			seq++
			buf[0], buf[1], buf[2], buf[3] = byte(n), byte(n>>8), byte(n>>16), seq
			_, err := c.Write(buf[:4+n])
			must(err)
		}
		if err != nil {
			break
		}
	}
	c.send(seq+1, nil)
}

func (c *conn) exec(sql string) string {
	c.send(0, append([]byte{3}, sql...))
	return c.answer(sql)
}

// prepare gives the id of a statement.
func (c *conn) prepare(sql string) uint32 {
	c.send(0, append([]byte{22}, sql...))
	b := c.packet()
	if b[0] == 0xff {
		fail(sql, b)
	}
	columns, params := binary.LittleEndian.Uint16(b[5:]), binary.LittleEndian.Uint16(b[7:])
	for _, n := range []uint16{params, columns} {
		for range n {
			c.packet()
		}
		if n > 0 {
			c.packet()
		}
	}
	return binary.LittleEndian.Uint32(b[1:])
}

// raw sends a whole packet that was made before.
func (c *conn) raw(packet []byte, what string) {
	_, err := c.Write(packet)
	must(err)
	c.answer(what)
}
