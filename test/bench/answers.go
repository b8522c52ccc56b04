package main

// How long those wait who ask a daemon of many instances: people, by the commands, and
// the commands, by the control socket.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// answerLimit bounds one answer.
const answerLimit = 10 * time.Second

// Answer is how long one question took, asked again and again.
type Answer struct {
	Question string        `json:"question"`
	Asked    int           `json:"asked"`
	Bytes    int           `json:"bytes"` // of the last answer
	Median   time.Duration `json:"median_ns"`
	Worst    time.Duration `json:"worst_ns"`
	CPU      time.Duration `json:"cpu_ns"` // of the command, median; 0 for the socket
}

// answering is a program that can be asked. A question returns what it was told and
// how much of a core's time the asking took.
type answering interface {
	questions(p *pair, of side) []question
}

type question struct {
	name string
	ask  func(ctx context.Context) (answer []byte, cpu time.Duration, err error)
}

// askAll asks every question n times, one after the other in turn: what else the
// machine does meets all of them.
func askAll(ctx context.Context, p *pair, of side, n int) ([]Answer, error) {
	program, ok := p.program.(answering)
	if !ok || n == 0 {
		return nil, nil
	}
	all := program.questions(p, of)
	took, cpus := make([][]time.Duration, len(all)), make([][]time.Duration, len(all))
	answers := make([]Answer, len(all))
	for range n {
		for i, q := range all {
			patience, cancel := context.WithTimeout(ctx, answerLimit)
			began := time.Now()
			answer, cpu, err := q.ask(patience)
			took[i], cpus[i] = append(took[i], time.Since(began)), append(cpus[i], cpu)
			cancel()
			if err != nil {
				return nil, fmt.Errorf("ask %s: %w", q.name, err)
			}
			answers[i].Bytes = len(answer)
		}
	}
	for i, q := range all {
		slices.Sort(took[i])
		slices.Sort(cpus[i])
		answers[i].Question, answers[i].Asked = q.name, n
		answers[i].Median, answers[i].Worst, answers[i].CPU = took[i][n/2], took[i][n-1], cpus[i][n/2]
	}
	return answers, nil
}

func (t tanist) questions(p *pair, of side) []question {
	socket := filepath.Join(p.dirs[of], "s")
	command := func(argv ...string) question {
		return question{"tanist " + strings.Join(argv, " "), func(ctx context.Context) ([]byte, time.Duration, error) {
			cmd := exec.CommandContext(ctx, t.binary, append(argv, "--socket", socket)...)
			out, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() && len(out) > 0 {
				err = nil // that of check-master on a standby
			}
			return out, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
		}}
	}
	get := func(path string) question {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}}
		return question{"GET " + path, func(ctx context.Context) ([]byte, time.Duration, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tanist"+path, nil)
			if err != nil {
				return nil, 0, err
			}
			resp, err := client.Do(r)
			if err != nil {
				return nil, 0, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s", resp.Status, body)
			}
			return body, 0, err
		}}
	}
	return []question{
		command("version"), // what it costs to be a process
		command("check-master", "--instance", "i1"), command("status"), command("status", "--json"),
		get("/v1/status?instance=i1"), get("/v1/status"),
	}
}

func printAnswers(w io.Writer, costs []Cost) {
	if !slices.ContainsFunc(costs, func(c Cost) bool { return len(c.Answers) > 0 }) {
		return
	}
	fmt.Fprint(w, `
How long an answer of the Active took, median / worst, and how much of a core's time the command that asks.

| instances | advert | question | bytes | n | at rest, ms | its CPU, ms | busy, ms |
|---:|---:|---|---:|---:|---:|---:|---:|
`)
	for _, c := range costs {
		for i, a := range c.Answers {
			busy, cpu := "", ""
			if c.Busy != nil && i < len(c.Busy.Answers) {
				busy = c.Busy.Answers[i].took()
			}
			if a.CPU > 0 {
				cpu = number(a.CPU.Seconds() * 1e3)
			}
			fmt.Fprintf(w, "| %d | %v | %s | %d | %d | %s | %s | %s |\n", c.Instances, c.Interval, a.Question, a.Bytes, a.Asked, a.took(), cpu, busy)
		}
	}
}

func (a Answer) took() string {
	return number(a.Median.Seconds()*1e3) + " / " + number(a.Worst.Seconds()*1e3)
}
