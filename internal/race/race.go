// Package race says whether the race detector is built in; allocation ceilings
// do not hold under it.
package race
