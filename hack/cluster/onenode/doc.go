// Package onenode is a whole Kubernetes with one node, made of processes of this machine: etcd, API server, controller
// manager, scheduler, kubelet, kube-proxy and containerd. It needs root on Linux and no Docker.
//
// The control plane and the kubelet are built from Go modules (see hack/testenv), containerd, runc and the CNI plugins are
// Debian's packages. Pods have addresses of a bridge that only this machine knows, and reach nothing but each other and
// this machine. Images are imported: nothing is pulled.
//
// Everything that a cluster writes is in its folder, everything that it starts has its process id there, and Down takes
// all of it away again. Two clusters at once are not possible, because both would have the same bridges and ports.
package onenode
