package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalWorkload is one running instance of an application outside a cluster: a process or a
// virtual machine. Services select it by its labels, as they select pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=exw,categories=tulle
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.addresses[0]`
// +kubebuilder:printcolumn:name="Account",type=string,JSONPath=`.spec.serviceAccount`
// +kubebuilder:printcolumn:name="Terminating",type=boolean,JSONPath=`.spec.terminating`
type ExternalWorkload struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What and where the workload is.
	Spec ExternalWorkloadSpec `json:"spec"`
}

// ExternalWorkloadSpec says what and where a workload is.
type ExternalWorkloadSpec struct {
	// The IP addresses that others reach it at. Several workloads may share an address when their
	// ports differ.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	Addresses []string `json:"addresses"`

	// The ports that others reach it at.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=port
	Ports []ExternalWorkloadPort `json:"ports"`

	// The service account whose identity the workload's proxy proves:
	// spiffe://<trust domain>/ns/<namespace>/sa/<serviceAccount>.
	//
	// +kubebuilder:default=default
	// +kubebuilder:validation:MaxLength=253
	// +optional
	ServiceAccount string `json:"serviceAccount,omitempty"`

	// Whether a proxy stands before the workload, so that others reach it by mutual TLS. True when
	// absent.
	//
	// +optional
	Proxied *bool `json:"proxied,omitempty"`

	// The workload's own end has begun: it still serves, and is chosen when nothing else is left.
	//
	// +optional
	Terminating bool `json:"terminating,omitempty"`

	// The workload's share among the endpoints of a Service. 1 when absent.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Weight *int32 `json:"weight,omitempty"`

	// The zone that it runs in.
	//
	// +optional
	Zone string `json:"zone,omitempty"`

	// The machine that it runs on.
	//
	// +optional
	Node string `json:"node,omitempty"`

	// What this instance is one of, as metrics say it (dst_deployment). When absent, the label
	// app.kubernetes.io/name, else the label app.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Deployment string `json:"deployment,omitempty"`
}

// ExternalWorkloadPort is one port of a workload.
type ExternalWorkloadPort struct {
	// The name that a Service's targetPort may use.
	//
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Name string `json:"name,omitempty"`

	// The number.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// What the port speaks, with the names of Service.spec.ports.appProtocol.
	//
	// +optional
	AppProtocol *string `json:"appProtocol,omitempty"`

	// False: the workload's proxy does not stand before this port. True when absent.
	//
	// +optional
	Meshed *bool `json:"meshed,omitempty"`
}

// ExternalWorkloadList is a list of ExternalWorkload.
//
// +kubebuilder:object:root=true
type ExternalWorkloadList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ExternalWorkload `json:"items"`
}
