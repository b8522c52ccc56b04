package lab

import "fmt"

// Outside returns the pid on this machine of the process that has this pid inside
// the node, for a tracer. The process may end at any time.
func (n *Node) Outside(pid int) (int, error) {
	proc, err := n.hostProcess(pid)
	if err != nil {
		return 0, fmt.Errorf("find %d on %s: %w", pid, n.name, err)
	}
	defer proc.Release()
	return proc.Pid, nil
}
