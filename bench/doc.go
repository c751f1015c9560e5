// Command bench compares tulle-proxy with a direct connection and with HAProxy, all in one run:
// two proxies beside each other with mutual TLS between them, the same certificates, the same load.
// Contenders take turns, round by round; what is reported are medians, and ratios within the run.
// Proxies have one core for themselves, load and origin another one. It runs on Linux alone.
package main
