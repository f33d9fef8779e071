package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const ed25519Cosignature = 0x04

// cosigner is a note.Verifier of timestamped Ed25519 cosignatures, type 0x04. It remembers the time of the last one it verified.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
	time uint64
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

// Verify checks an 8-byte big-endian time and a signature of "cosignature/v1", that time and the whole note text.
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	t := binary.BigEndian.Uint64(sig)
	signed := append([]byte("cosignature/v1\ntime "+strconv.FormatUint(t, 10)+"\n"), msg...)
	if t>>63 != 0 || !ed25519.Verify(c.key, signed, sig[8:]) {
		return false
	}
	c.time = t
	return true
}

// newCosigner parses a verifier key, name+id+base64(type || key), and recomputes its id.
func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("not a verifier key: %q", vkey)
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != ed25519Cosignature {
		return nil, fmt.Errorf("not an Ed25519 cosignature key: %q", vkey)
	}
	id := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	if hex.EncodeToString(id[:4]) != parts[1] {
		return nil, fmt.Errorf("key id %s, expected %x", parts[1], id[:4])
	}
	return &cosigner{name: parts[0], hash: binary.BigEndian.Uint32(id[:4]), key: data[1:]}, nil
}

// checkCosigned opens a checkpoint with the log's and the witness's key, both of which have to have signed.
func checkCosigned(q *question, signed []byte) error {
	log, err := note.NewVerifier(q.Key)
	if err != nil {
		return err
	}
	witness, err := newCosigner(q.Witness)
	if err != nil {
		return err
	}
	opened, err := note.Open(signed, note.VerifierList(log, witness))
	if err != nil {
		return err
	}
	if len(opened.Sigs) != 2 {
		return fmt.Errorf("%d of 2 known keys signed", len(opened.Sigs))
	}
	if witness.time != q.Time {
		return fmt.Errorf("cosigned at %d, expected %d", witness.time, q.Time)
	}
	return nil
}

// checkProof verifies a tlog-proof of an entry under a cosigned checkpoint, from the text on.
func checkProof(q *question) error {
	head, checkpoint, found := bytes.Cut(q.Proof, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return fmt.Errorf("not a tlog-proof: %q", lines[0])
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		path = append(path, h)
	}
	if err := checkCosigned(q, checkpoint); err != nil {
		return err
	}
	tree := strings.Split(string(checkpoint), "\n")
	size, err := strconv.ParseInt(tree[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(tree[2])
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, size, root, index, tlog.RecordHash(q.Entry))
}
