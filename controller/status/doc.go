// Package status is what the control plane has to say to people about their objects: what is broken,
// what is not supported yet, what contradicts something else. Each Report names the object, the
// field, and where it was read. A Set holds what is true now; it logs what comes and goes, never
// what stays, and shows all of it as JSON.
package status
