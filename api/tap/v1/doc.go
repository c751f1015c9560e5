// Package tapv1 is the wire form of tap: what a proxy tells of the requests that pass it while
// somebody looks.
package tapv1
