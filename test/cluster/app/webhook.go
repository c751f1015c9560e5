package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
)

// review is the part of an AdmissionReview that an answer needs.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    *struct {
		UID string `json:"uid"`
	} `json:"request,omitempty"`
	Response *response `json:"response,omitempty"`
}

type response struct {
	UID       string `json:"uid"`
	Allowed   bool   `json:"allowed"`
	PatchType string `json:"patchType"`
	Patch     []byte `json:"patch"`
}

// webhook annotates every pod that it is asked about.
func webhook(ctx context.Context, address, crt, key string) error {
	answer := func(w http.ResponseWriter, r *http.Request) {
		var asked review
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Request == nil {
			http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
			return
		}
		log.Printf("reviewed %s", asked.Request.UID)
		_ = json.NewEncoder(w).Encode(review{
			APIVersion: asked.APIVersion, Kind: asked.Kind,
			Response: &response{
				UID: asked.Request.UID, Allowed: true, PatchType: "JSONPatch",
				Patch: []byte(`[{"op": "add", "path": "/metadata/annotations", "value": {"tulle.test/reviewed": "yes"}}]`),
			},
		})
	}
	return closed(server(ctx, address, http.HandlerFunc(answer)).ListenAndServeTLS(crt, key))
}
