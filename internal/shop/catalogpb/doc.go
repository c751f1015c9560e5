// Package catalogpb is the generated code of the sample shop's catalogue.
package catalogpb
