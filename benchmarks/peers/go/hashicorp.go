// A hashicorp/raft node in a process of its own, which does what it is told through a pipe.
//
// Rules of this file:
//
//   - It runs as it comes: its default configuration, but for what its only argument says; its log in
//     Bolt by raft-boltdb, which flushes each transaction to the disk, behind the cache of 512 entries
//     that its users put there.
//   - Its state machine counts, and takes commands in batches, which is the least that it can cost.
package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb"
)

type setup struct {
	NodeID           string   `json:"node_id"`
	Voters           []string `json:"voters"`
	Directory        string   `json:"directory"`
	Storage          string   `json:"storage"`
	Port             int      `json:"port"`
	ElectionTimeoutS float64  `json:"election_timeout_s"`
	IsWatched        bool     `json:"is_watched"`
}

type counter struct{ count uint64 }

func (c *counter) Apply(*raft.Log) interface{} {
	c.count++
	return c.count
}

func (c *counter) ApplyBatch(logs []*raft.Log) []interface{} {
	results := make([]interface{}, len(logs))
	for i, log := range logs {
		results[i] = c.Apply(log)
	}
	return results
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return snapshot{c.count}, nil }

func (c *counter) Restore(from io.ReadCloser) error {
	defer from.Close()
	return binary.Read(from, binary.BigEndian, &c.count)
}

type snapshot struct{ count uint64 }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := binary.Write(sink, binary.BigEndian, s.count); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}

func open(be setup, transport *raft.NetworkTransport, ports map[string]int) *raft.Raft {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(be.NodeID)
	config.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	if be.ElectionTimeoutS > 0 {
		config.HeartbeatTimeout = seconds(be.ElectionTimeoutS)
		config.ElectionTimeout = seconds(be.ElectionTimeoutS)
		config.LeaderLeaseTimeout = seconds(be.ElectionTimeoutS)
	}
	directory := filepath.Join(be.Directory, "node-"+be.NodeID)
	var logs raft.LogStore
	var stable raft.StableStore
	var snapshots raft.SnapshotStore
	if be.Storage == "bolt" {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			fail("%v", err)
		}
		bolt, err := raftboltdb.NewBoltStore(filepath.Join(directory, "raft.db"))
		if err != nil {
			fail("bolt: %v", err)
		}
		cache, err := raft.NewLogCache(512, bolt)
		if err != nil {
			fail("cache: %v", err)
		}
		files, err := raft.NewFileSnapshotStore(directory, 2, io.Discard)
		if err != nil {
			fail("snapshots: %v", err)
		}
		logs, stable, snapshots = cache, bolt, files
	} else {
		memory := raft.NewInmemStore()
		logs, stable, snapshots = memory, memory, raft.NewInmemSnapshotStore()
	}
	var members raft.Configuration
	for _, id := range be.Voters {
		address := raft.ServerAddress("127.0.0.1:" + strconv.Itoa(ports[id]))
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(id), Address: address})
	}
	has, err := raft.HasExistingState(logs, stable, snapshots)
	if err == nil && !has {
		err = raft.BootstrapCluster(config, logs, stable, snapshots, transport, members)
	}
	if err != nil {
		fail("bootstrap: %v", err)
	}
	node, err := raft.NewRaft(config, &counter{}, logs, stable, snapshots, transport)
	if err != nil {
		fail("raft: %v", err)
	}
	return node
}

func term(node *raft.Raft) int {
	term, _ := strconv.Atoi(node.Stats()["term"])
	return term
}

// leaderID waits until the node knows who leads.
func leaderID(node *raft.Raft) string {
	for {
		leader := node.Leader()
		for _, server := range node.GetConfiguration().Configuration().Servers {
			if leader != "" && server.Address == leader {
				return string(server.ID)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// watch says when this node has come to lead, and a command of its has succeeded.
func watch(node *raft.Raft, be setup) {
	for leads := range node.LeaderCh() {
		if leads && node.Apply(make([]byte, 100), 0).Error() == nil {
			say(map[string]interface{}{"type": "Led", "node_id": be.NodeID, "term": term(node)})
		}
	}
}

func load(node *raft.Raft, one order) loaded {
	for node.State() != raft.Leader {
		time.Sleep(time.Millisecond)
	}
	call := func(number uint64) error {
		command := make([]byte, one.CommandBytes)
		binary.BigEndian.PutUint64(command, number)
		return node.Apply(command, 0).Error()
	}
	recover := func() { time.Sleep(20 * time.Millisecond) }
	return measure(system{call, recover, func() int { return term(node) }}, one)
}

func main() {
	var be setup
	if err := json.Unmarshal([]byte(os.Args[1]), &be); err != nil {
		fail("no setup: %v", err)
	}
	address := "127.0.0.1:" + strconv.Itoa(be.Port)
	transport, err := raft.NewTCPTransport(address, nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		fail("listen: %v", err)
	}
	_, port := splitPort(string(transport.LocalAddr()))
	say(map[string]interface{}{"type": "Bound", "port": port})
	todo := orders()
	peers := <-todo
	began := time.Now()
	node := open(be, transport, peers.Ports)
	openS := time.Since(began).Seconds()
	if be.IsWatched {
		go watch(node, be)
	}
	say(map[string]interface{}{"type": "Opened", "leader_id": leaderID(node), "open_s": openS})
	beganCpuS := cpuS()
	for one := range todo {
		switch one.Type {
		case "Load":
			say(load(node, one))
		case "Begin":
			beganCpuS = cpuS()
		case "End":
			say(usageSince(beganCpuS))
		default:
			fail("%q is no order for a hashicorp/raft node", one.Type)
		}
	}
}
