// A client of a served log made of Go's own sumdb/note and sumdb/tlog: opens the checkpoint, fetches tiles over HTTP, proves
// records and older trees by them. Arguments: URL, verifier key, and older trees as size:base64root. Prints what it has proved.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func path(t tlog.Tile) string { return strings.Replace(t.Path(), "tile/8/", "tile/", 1) }

func get(url, kind string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != kind {
		return nil, fmt.Errorf("%s: %s, %s", url, response.Status, response.Header.Get("Content-Type"))
	}
	return io.ReadAll(response.Body)
}

type server struct {
	url  string
	read int
}

func (s *server) Height() int { return 8 }

func (s *server) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range wanted {
		data, err := get(s.url+"/"+path(t), "application/octet-stream")
		if err != nil {
			return nil, err
		}
		s.read++
		all = append(all, data)
	}
	return all, nil
}

func (s *server) SaveTiles([]tlog.Tile, [][]byte) {}

func tree(size, root string) (t tlog.Tree, err error) {
	if t.N, err = strconv.ParseInt(size, 10, 64); err != nil {
		return
	}
	data, err := base64.StdEncoding.DecodeString(root)
	if err == nil && copy(t.Hash[:], data) != tlog.HashSize {
		err = errors.New("not a hash")
	}
	return
}

func check(s *server, key string, older []string) error {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	signed, err := get(s.url+"/checkpoint", "text/plain; charset=utf-8")
	if err != nil {
		return err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		return fmt.Errorf("log %q", lines[0])
	}
	head, err := tree(lines[1], lines[2])
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(head, s) // authenticates the tiles that it reads
	for n := int64(0); n < head.N; n += 256 {
		bundle, width := fmt.Sprintf("entries/%03d", n/256), int64(256)
		if n+width > head.N {
			width = head.N - n
			bundle += fmt.Sprintf(".p/%d", width)
		}
		data, err := get(s.url+"/tile/"+bundle, "application/octet-stream")
		if err != nil {
			return err
		}
		for i := n; i < n+width; i++ {
			size := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+size]
			data = data[2+size:]
			if i%37 != 0 && i+1 != head.N {
				continue
			}
			proof, err := tlog.ProveRecord(head.N, i, reader)
			if err == nil {
				err = tlog.CheckRecord(proof, head.N, head.Hash, i, tlog.RecordHash(entry))
			}
			if err != nil {
				return fmt.Errorf("record %d: %v", i, err)
			}
		}
		if len(data) > 0 {
			return fmt.Errorf("%d bytes too many in %s", len(data), bundle)
		}
	}
	for _, text := range older {
		size, root, _ := strings.Cut(text, ":")
		old, err := tree(size, root)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(head.N, old.N, reader)
		if err == nil {
			err = tlog.CheckTree(proof, head.N, head.Hash, old.N, old.Hash)
		}
		if err != nil {
			return fmt.Errorf("tree of %d: %v", old.N, err)
		}
	}
	fmt.Printf("ok: %d records, %d older trees, %d tiles read\n", head.N, len(older), s.read)
	return nil
}

func main() {
	if err := check(&server{url: os.Args[1]}, os.Args[2], os.Args[3:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
