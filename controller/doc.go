// Package controller puts the control plane together: which services run in this process, what
// feeds them, and how they get their own certificates. Below it, controller/state knows the mesh,
// and identity and destination serve it; they do not know each other.
//
// A Plane runs the identity service, the destination service, or both. Both in one process share
// the tables, and destination gets its leaf from identity without a connection.
package controller
