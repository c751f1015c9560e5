// Package convert makes rows of controller/state from Kubernetes objects. It is pure: what it has
// to say of an object comes back as problems. An object with a Broken problem gives no row; one that
// the mesh has no use for (a Service of type ExternalName, a route that asks for what is not
// supported yet) gives none either, and says so.
//
// What annotations say, each on a Namespace and, where it makes sense, on a Service or workload:
//
//	config.tulle.dev/opaque-ports: "3306,6379,9000-9099"
//	    Namespace, Service, ExternalWorkload. Ports that are bytes (rule R2.4). The narrower scope's
//	    word replaces the wider one's; "" says that there are none.
//	config.tulle.dev/default-inbound-policy: deny
//	    Namespace, ExternalWorkload. One of the five defaults of rule R9.2, for all ports.
//	config.tulle.dev/default-inbound-policy.8080: all-unauthenticated
//	    The same for one port. On a workload it is stronger than anything its Namespace says; what a
//	    workload says of all ports is stronger than what its Namespace says of one.
package convert
