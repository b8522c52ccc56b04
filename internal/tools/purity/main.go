// Command purity reports the statements that a pure package may not hold and
// that no list of names can forbid: goroutines, channels, and map iteration,
// whose random order would make the same seed give two different runs.
//
//	purity ./vrrp ./health ./hooks ./replication ./internal/failover ./internal/mono
//
// A map loop whose result does not depend on the order says so and why, on its
// own line or the line above: `// unordered: a sum`. Test files are not held.
package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/singlechecker"
)

const (
	noConcurrency = "no goroutines or channels in a pure package; an effect goes out, its result comes back as an event"
	noMapOrder    = "map order is random; range over slices.Sorted(maps.Keys(m)), or say `// unordered: why`"
)

func main() { singlechecker.Main(newAnalyzer()) }

func newAnalyzer() *analysis.Analyzer {
	return &analysis.Analyzer{
		Name: "purity",
		Doc:  "report goroutines, channels and map iteration in pure packages",
		Run:  run,
	}
}

func run(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		if strings.HasSuffix(pass.Fset.Position(file.Package).Filename, "_test.go") {
			continue
		}
		unordered := unorderedLines(pass.Fset, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if n != nil {
				check(pass, n, unordered)
			}
			return true
		})
	}
	return nil, nil
}

func check(pass *analysis.Pass, n ast.Node, unordered map[int]bool) {
	switch n := n.(type) {
	case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
		pass.Reportf(n.Pos(), noConcurrency)
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			pass.Reportf(n.Pos(), noConcurrency)
		}
	case *ast.RangeStmt:
		line := pass.Fset.Position(n.Pos()).Line
		if randomOrder(pass.TypesInfo, n.X) && !unordered[line] && !unordered[line-1] {
			pass.Reportf(n.Pos(), noMapOrder)
		}
	}
}

// randomOrder reports whether ranging over x visits a map in the runtime's
// order: x is a map, or an iterator straight from maps.All, Keys or Values.
func randomOrder(info *types.Info, x ast.Expr) bool {
	if t := info.TypeOf(x); t != nil {
		if _, ok := t.Underlying().(*types.Map); ok {
			return true
		}
	}
	call, ok := ast.Unparen(x).(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	fn := info.Uses[sel.Sel]
	return fn != nil && fn.Pkg() != nil && fn.Pkg().Path() == "maps"
}

// unorderedLines returns the lines that hold an `unordered:` comment with a reason.
func unorderedLines(fset *token.FileSet, file *ast.File) map[int]bool {
	lines := make(map[int]bool)
	for _, group := range file.Comments {
		for _, c := range group.List {
			why, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(c.Text, "//")), "unordered:")
			if ok && strings.TrimSpace(why) != "" {
				lines[fset.Position(c.Pos()).Line] = true
			}
		}
	}
	return lines
}
