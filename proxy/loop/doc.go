// Package loop is what a worker of the proxy stands on: readiness of sockets
// behind one small interface (Poller), a turn, timers, and a way in for other
// goroutines (Post).
//
// A Worker is one thread of control. Everything that it owns (sockets,
// engines, timers, estimates) is touched by its goroutine alone, without locks
// or channels; only Post, Stop and Poller.Wake may be called from elsewhere.
// Turn is a plain function of the time and of what is ready: Run calls it after
// Poller.Wait, a simulation calls it for many workers in an order of its own
// (proxy/loop/simnet).
//
// There are three pollers, and one contract test runs over all of them: epoll
// (Linux), goroutines (everywhere, for any net.Conn) and the simulated network.
package loop
