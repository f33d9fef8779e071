// Reads one JSON question a line, answers "ok" or "error: ..." a line, with Go's own sumdb/note and sumdb/tlog.
// Cosignatures, which these do not know, are judged by crypto/ed25519 and what cosignature.go says of C2SP tlog-cosignature.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Op      string
	Key     string            // verifier key
	Note    []byte            // signed note
	Text    string            // what the note says
	Size    int64             // of the tree
	Root    []byte            // of the tree
	Index   int64             // of the leaf
	Leaf    []byte            // leaf hash
	OldSize int64             //
	OldRoot []byte            //
	Path    [][]byte          // inclusion or consistency proof
	Tiles   map[string][]byte // by path, without the height
	Leaves  [][]byte          // all leaf hashes
	Witness string            // verifier key of a witness
	Time    uint64            // of its cosignature
	Proof   []byte            // tlog-proof
	Entry   []byte            // logged
}

// tiles serves a question's tiles to tlog.
type tiles map[string][]byte

func path(t tlog.Tile) string { return strings.Replace(t.Path(), "tile/8/", "tile/", 1) }

func (s tiles) Height() int { return 8 }

func (s tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, t := range wanted {
		data, ok := s[path(t)]
		if !ok {
			return nil, fmt.Errorf("no tile %s", path(t))
		}
		read = append(read, data)
	}
	return read, nil
}

func (s tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func hash(b []byte) (h tlog.Hash) {
	if copy(h[:], b) != tlog.HashSize || len(b) != tlog.HashSize {
		panic("not a hash")
	}
	return h
}

func hashes(list [][]byte) (all []tlog.Hash) {
	for _, b := range list {
		all = append(all, hash(b))
	}
	return all
}

func answer(q *question) error {
	switch q.Op {
	case "note":
		verifier, err := note.NewVerifier(q.Key)
		if err != nil {
			return err
		}
		opened, err := note.Open(q.Note, note.VerifierList(verifier))
		if err != nil {
			return err
		}
		if opened.Text != q.Text || len(opened.Sigs) != 1 {
			return fmt.Errorf("opened as %q with %d signatures", opened.Text, len(opened.Sigs))
		}
		return nil
	case "inclusion":
		return tlog.CheckRecord(hashes(q.Path), q.Size, hash(q.Root), q.Index, hash(q.Leaf))
	case "consistency":
		return tlog.CheckTree(hashes(q.Path), q.Size, hash(q.Root), q.OldSize, hash(q.OldRoot))
	case "tiles":
		return checkTiles(q)
	case "cosigned":
		return checkCosigned(q, q.Note)
	case "proof":
		return checkProof(q)
	}
	return fmt.Errorf("unknown question %q", q.Op)
}

// checkTiles asks for exactly the tiles of the tree, and reads every leaf and the root through them.
func checkTiles(q *question) error {
	var expected []tlog.Tile
	for _, t := range tlog.NewTiles(8, 0, q.Size) { // which lists the partial tiles of each width
		if last := len(expected) - 1; last >= 0 && expected[last].L == t.L && expected[last].N == t.N {
			expected[last] = t
		} else {
			expected = append(expected, t)
		}
	}
	if len(expected) != len(q.Tiles) {
		return fmt.Errorf("%d tiles, expected %d", len(q.Tiles), len(expected))
	}
	for _, t := range expected {
		data, ok := q.Tiles[path(t)]
		if !ok {
			return fmt.Errorf("no tile %s", path(t))
		}
		if t.L > 0 {
			continue
		}
		for i := 0; i < t.W; i++ {
			n := t.N<<8 + int64(i)
			leaf, err := tlog.HashFromTile(t, data, tlog.StoredHashIndex(0, n))
			if err != nil || leaf != hash(q.Leaves[n]) {
				return fmt.Errorf("leaf %d in %s: %v, %v", n, path(t), leaf, err)
			}
		}
	}
	reader := tlog.TileHashReader(tlog.Tree{N: q.Size, Hash: hash(q.Root)}, tiles(q.Tiles))
	root, err := tlog.TreeHash(q.Size, reader)
	if err != nil || root != hash(q.Root) {
		return fmt.Errorf("root %v, %v", root, err)
	}
	for _, n := range []int64{0, q.Size / 2, q.Size - 1} {
		proof, err := tlog.ProveRecord(q.Size, n, reader) // authenticates the tiles that it reads
		if err == nil {
			err = tlog.CheckRecord(proof, q.Size, root, n, hash(q.Leaves[n]))
		}
		if err != nil {
			return fmt.Errorf("leaf %d: %v", n, err)
		}
	}
	return nil
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for in.More() {
		q := new(question)
		if err := in.Decode(q); err != nil {
			panic(err)
		}
		if err := answer(q); err != nil {
			fmt.Fprintf(out, "error: %v\n", err)
		} else {
			fmt.Fprintln(out, "ok")
		}
	}
}
