package mesh

import "testing"

func http2Cases() []meshCase { return []meshCase{{"http2/none", func(*testing.T, *world) {}}} }
