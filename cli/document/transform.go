package document

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/tulle-mesh/tulle/cli/console"
	"github.com/tulle-mesh/tulle/cli/exit"
)

// Outcome is what became of an object.
type Outcome struct {
	// Object names it; Verb says what was done: "annotated"; "" with a Why: it was skipped.
	Object, Verb, Why string
	Notices           []string
}

// Each changes one object.
type Each func(*Object) (Outcome, error)

// Transform reads names, has each object changed and writes all of it: nothing at all where one object
// fails, so that what is piped into kubectl is never a part. The outcomes go to con.Err.
func Transform(ctx context.Context, con *console.Console, f console.Format, names []string, each Each) error {
	var docs []*Document
	for _, name := range names {
		sources, err := Read(ctx, name, con.In)
		if err != nil {
			return exit.With(exit.Usage, err, "a file, a directory, an address, or - for the input")
		}
		for _, s := range sources {
			more, err := Parse(s)
			if err != nil {
				return exit.With(exit.Failed, err, "")
			}
			docs = append(docs, more...)
		}
	}
	failed, did := 0, 0
	for _, d := range docs {
		objects, err := d.Objects()
		if err != nil {
			return err
		}
		for _, o := range objects {
			out, err := each(o)
			if err != nil {
				failed++
				fmt.Fprintf(con.Err, "%s %s: %s\n", con.PaintErr(console.Bad, "×"), o, err)
				continue
			}
			if out.Verb != "" {
				did++
			}
			tell(con, out)
		}
	}
	if failed > 0 {
		return exit.With(exit.Failed, fmt.Errorf("%d objects could not be changed; nothing was written", failed), "")
	}
	if did == 0 {
		fmt.Fprintf(con.Err, "%s nothing was changed\n", con.PaintErr(console.Doubt, "!"))
	}
	return write(con.Out, con, f, docs)
}

func tell(con *console.Console, out Outcome) {
	if out.Verb != "" {
		fmt.Fprintf(con.Err, "%s %s: %s\n", con.PaintErr(console.Good, "✓"), out.Object, out.Verb)
	} else {
		fmt.Fprintf(con.Err, "%s %s: skipped: %s\n", con.PaintErr(console.Faint, "-"), out.Object, out.Why)
	}
	for _, n := range out.Notices {
		fmt.Fprintf(con.Err, "%s %s\n", con.PaintErr(console.Doubt, "!"), console.Clean(n))
	}
}

func write(w io.Writer, con *console.Console, f console.Format, docs []*Document) error {
	if f == console.JSON {
		return writeJSON(con, docs)
	}
	ended := true
	for i, d := range docs {
		b, err := d.Bytes()
		if err != nil {
			return err
		}
		if !ended {
			b = append([]byte("\n"), b...)
		}
		if i > 0 && !isSeparator(bytes.TrimLeft(b, "\n")) {
			b = append([]byte("---\n"), b...) // two files, of which the second begins at once
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		ended = len(b) == 0 || b[len(b)-1] == '\n'
	}
	return nil
}

func writeJSON(con *console.Console, docs []*Document) error {
	var all []any
	for _, d := range docs {
		v, err := d.JSON()
		if err != nil {
			return err
		}
		if v != nil {
			all = append(all, v)
		}
	}
	if len(all) == 1 {
		return con.Write(console.JSON, all[0], nil)
	}
	return con.Write(console.JSON, map[string]any{"apiVersion": "v1", "kind": "List", "items": all}, nil)
}
