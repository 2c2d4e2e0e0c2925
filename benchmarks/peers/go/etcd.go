// Load on an etcd cluster, from a process of its own, by etcd's own client.
//
// Rules of this file:
//
//   - Puts and gets go to the leader, which is best for them; gets are linearizable, as they come.
//   - Callers are spread over so many connections as are asked for.
//   - After a kill, everyone who is left is asked for a put every few milliseconds, each a request of
//     its own: what hangs on the leader that is gone keeps nobody waiting.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/etcd/clientv3"
	"google.golang.org/grpc/grpclog"
)

const (
	keys          = 1000
	patience      = 30 * time.Second
	seekInterval  = 5 * time.Millisecond
	bytesPerFrame = 16 << 20
)

type setup struct {
	Endpoints   []string `json:"endpoints"`
	Connections int      `json:"connections"`
}

func connect(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:          []string{endpoint},
		DialTimeout:        patience,
		MaxCallSendMsgSize: bytesPerFrame,
	})
	if err != nil {
		fail("%s: %v", endpoint, err)
	}
	return client
}

// leader is the number of the endpoint that leads, and its term; -1: nobody does.
func leader(clients []*clientv3.Client, but string) (int, int) {
	for number, client := range clients {
		if strconv.Itoa(number) == but {
			continue
		}
		bounded, cancel := context.WithTimeout(context.Background(), time.Second)
		status, err := client.Status(bounded, client.Endpoints()[0])
		cancel()
		if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
			return number, int(status.RaftTerm)
		}
	}
	return -1, 0
}

func awaitLeader(clients []*clientv3.Client) (int, int) {
	for {
		if number, term := leader(clients, ""); number >= 0 {
			return number, term
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// seek puts until one succeeds.
func seek(clients []*clientv3.Client, but string) {
	background, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan bool, 1)
	for number := 0; ; number++ {
		for id, client := range clients {
			if strconv.Itoa(id) == but {
				continue
			}
			go func(client *clientv3.Client, number int) {
				bounded, cancel := context.WithTimeout(background, patience)
				defer cancel()
				if _, err := client.Put(bounded, "seek", strconv.Itoa(number)); err == nil {
					select {
					case done <- true:
					default:
					}
				}
			}(client, number)
		}
		select {
		case <-done:
			return
		case <-time.After(seekInterval):
		}
	}
}

func load(members []*clientv3.Client, be setup, one order) loaded {
	first, _ := awaitLeader(members)
	connections := make([]*clientv3.Client, be.Connections)
	for i := range connections {
		connections[i] = connect(be.Endpoints[first])
		defer connections[i].Close()
	}
	value := string(make([]byte, one.CommandBytes))
	call := func(number uint64) error {
		client := connections[number%uint64(len(connections))]
		key := fmt.Sprintf("bench/%d", number%keys)
		bounded, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if one.Call == "get" {
			_, err := client.Get(bounded, key)
			return err
		}
		_, err := client.Put(bounded, key, value)
		return err
	}
	if err := call(0); err != nil {
		fail("the first call: %v", err)
	}
	recover := func() { time.Sleep(20 * time.Millisecond) }
	term := func() int {
		_, term := awaitLeader(members)
		return term
	}
	return measure(system{call, recover, term}, one)
}

func main() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(os.Stderr, os.Stderr, os.Stderr))
	var be setup
	if err := json.Unmarshal([]byte(os.Args[1]), &be); err != nil {
		fail("no setup: %v", err)
	}
	say(map[string]interface{}{"type": "Bound", "port": 0})
	todo := orders()
	<-todo
	members := make([]*clientv3.Client, len(be.Endpoints))
	for i, endpoint := range be.Endpoints {
		members[i] = connect(endpoint)
	}
	number, _ := awaitLeader(members)
	say(map[string]interface{}{"type": "Opened", "leader_id": strconv.Itoa(number), "open_s": 0})
	for one := range todo {
		switch one.Type {
		case "Load":
			say(load(members, be, one))
		case "Look":
			number, term := awaitLeader(members)
			say(map[string]interface{}{"type": "Led", "node_id": strconv.Itoa(number), "term": term})
		case "Seek":
			seek(members, one.Except)
			say(map[string]interface{}{"type": "Led", "node_id": "", "term": 0})
		default:
			fail("%q is no order for a load", one.Type)
		}
	}
}
