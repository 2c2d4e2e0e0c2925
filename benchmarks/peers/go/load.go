// What the programs of benchmarks.peers have in common: orders and answers, and the loads.
//
// Rules of this file:
//
//   - Orders come from standard input and answers go to standard output, a line of JSON each, as
//     benchmarks/throughput/pipe.py has them. The end of the input ends the process.
//   - A command counts once the caller that wants its result has it; latency is taken of every one.
//   - In an open loop a command is due at a moment that was fixed beforehand, and its latency counts
//     from there, however late it was sent. All that were due in the measured interval are waited for.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An order, with the fields of all kinds of them.
type order struct {
	Type         string         `json:"type"`
	Ports        map[string]int `json:"ports"`
	Mode         string         `json:"mode"`
	Call         string         `json:"call"`
	Concurrency  int            `json:"concurrency"`
	WarmUpS      float64        `json:"warm_up_s"`
	Seconds      float64        `json:"seconds"`
	OpsMin       int            `json:"ops_min"`
	CommandBytes int            `json:"command_bytes"`
	GoesOn       bool           `json:"goes_on"`
	Except       string         `json:"other_than"`
}

type usage struct {
	Type  string  `json:"type"`
	CpuS  float64 `json:"cpu_s"`
	RssMb float64 `json:"rss_mb"`
}

type loaded struct {
	Type     string  `json:"type"`
	Ops      int     `json:"ops"`
	ElapsedS float64 `json:"elapsed_s"`
	P50Ms    float64 `json:"p50_ms"`
	P99Ms    float64 `json:"p99_ms"`
	P999Ms   float64 `json:"p999_ms"`
	Failed   int     `json:"failed"`
	Terms    int     `json:"terms"`
	Usage    usage   `json:"usage"`
}

var saying sync.Mutex

// say answers, at once.
func say(answer interface{}) {
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	saying.Lock()
	defer saying.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func sayType(kind string) { say(map[string]string{"type": kind}) }

// fail says why it does not go on, and ends the process.
func fail(format string, arguments ...interface{}) {
	say(map[string]string{"type": "Failed", "reason": fmt.Sprintf(format, arguments...)})
	os.Exit(1)
}

// orders are read until the input ends, which ends the process.
func orders() <-chan order {
	to := make(chan order, 64)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			var one order
			if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
				fail("no order: %v", err)
			}
			to <- one
		}
		os.Exit(0)
	}()
	return to
}

func cpuS() float64 {
	var took syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &took); err != nil {
		fail("getrusage: %v", err)
	}
	return float64(took.Utime.Nano()+took.Stime.Nano()) / 1e9
}

// usageSince is what this process took since a moment whose CPU time was noted.
func usageSince(beganCpuS float64) usage {
	peak := 0.0
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			peak = kib * 1024 / 1e6
		}
	}
	return usage{"Usage", cpuS() - beganCpuS, peak}
}

// system is what load is put on.
type system struct {
	// call makes a call, and waits for its result.
	call func(number uint64) error
	// recover returns when it may be worth trying again after a failure.
	recover func()
	// term grows with each change of leader.
	term func() int
}

// meter counts what is done in the measured interval.
type meter struct {
	on     int32
	ended  int32
	ops    int64
	failed int64
	goesOn bool
	number uint64
	mutex  sync.Mutex
	tookS  []float64
	recent func()
}

func (m *meter) next() uint64 { return atomic.AddUint64(&m.number, 1) }

func (m *meter) hasEnded() bool { return atomic.LoadInt32(&m.ended) == 1 }

func (m *meter) isOn() bool { return atomic.LoadInt32(&m.on) == 1 }

// take notes how one command ended; false: its caller stops.
func (m *meter) take(err error, took time.Duration, counts bool) bool {
	if m.hasEnded() && !counts {
		return false
	}
	if err != nil {
		if !m.goesOn {
			fail("a command failed: %v", err)
		}
		atomic.AddInt64(&m.failed, 1)
		m.recent()
		return true
	}
	if counts {
		atomic.AddInt64(&m.ops, 1)
		m.mutex.Lock()
		m.tookS = append(m.tookS, took.Seconds())
		m.mutex.Unlock()
	}
	return true
}

func (m *meter) percentileMs(percent float64) float64 {
	if len(m.tookS) == 0 {
		return 0
	}
	position := float64(len(m.tookS)-1) * percent / 100
	below, above := math.Floor(position), math.Ceil(position)
	low, high := m.tookS[int(below)], m.tookS[int(above)]
	return (low + (high-low)*(position-below)) * 1000
}

// measure puts load on a system, and measures once it is warm.
func measure(on system, load order) loaded {
	m := &meter{goesOn: load.GoesOn, recent: on.recover}
	var schedule func() float64
	switch load.Mode {
	case "tasks", "window": // nobody here knows anything like a window but so many callers
		for i := 0; i < load.Concurrency; i++ {
			go keepCalling(on, m)
		}
	case "open":
		schedule = keepTime(on, m, load)
	default:
		fail("%q is no mode", load.Mode)
	}
	time.Sleep(seconds(load.WarmUpS))
	term, beganCpuS, began := on.term(), cpuS(), time.Now()
	sayType("Began")
	atomic.StoreInt32(&m.on, 1)
	var elapsedS float64
	if schedule != nil {
		elapsedS = schedule()
	} else {
		time.Sleep(seconds(load.Seconds))
		for atomic.LoadInt64(&m.ops) < int64(load.OpsMin) && !load.GoesOn {
			time.Sleep(time.Millisecond)
		}
		elapsedS = time.Since(began).Seconds()
	}
	atomic.StoreInt32(&m.ended, 1)
	atomic.StoreInt32(&m.on, 0)
	used := usageSince(beganCpuS)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	sort.Float64s(m.tookS)
	return loaded{"Loaded", len(m.tookS), elapsedS, m.percentileMs(50), m.percentileMs(99),
		m.percentileMs(99.9), int(atomic.LoadInt64(&m.failed)), on.term() - term, used}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// keepCalling is one caller: it awaits each command before it makes the next.
func keepCalling(on system, m *meter) {
	for {
		began := time.Now()
		err := on.call(m.next())
		if !m.take(err, time.Since(began), m.isOn()) {
			return
		}
	}
}

// keepTime begins to send commands at the moments at which they are due, so many a second. What it
// returns waits for all that are due in the measured interval, and returns how long that took.
func keepTime(on system, m *meter, load order) func() float64 {
	var pending sync.WaitGroup
	began := time.Now().Add(seconds(load.WarmUpS))
	interval := time.Second / time.Duration(load.Concurrency)
	ends := began.Add(seconds(load.Seconds))
	pending.Add(1)
	go func() {
		defer pending.Done()
		for due := began.Add(-seconds(load.WarmUpS)); due.Before(ends); due = due.Add(interval) {
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
			pending.Add(1)
			go func(due time.Time) {
				defer pending.Done()
				err := on.call(m.next())
				m.take(err, time.Since(due), !due.Before(began))
			}(due)
		}
	}()
	return func() float64 {
		pending.Wait()
		return time.Since(began).Seconds()
	}
}

// splitPort cuts the port off an address.
func splitPort(address string) (string, int) {
	at := strings.LastIndexByte(address, ':')
	port, err := strconv.Atoi(address[at+1:])
	if err != nil {
		fail("%q has no port", address)
	}
	return address[:at], port
}
