package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ens-operator/ens-operator/hack/process"
	"github.com/ens-operator/ens-operator/runtime/server"
)

// readyTimeout bounds the start of the runtime, which takes less than a second.
const readyTimeout = 30 * time.Second

// startRuntime does what a kubelet would: it lays the volumes of the tenant's Deployment out and starts its container's
// program with its arguments. Only the folder and the ports differ.
func (s *scene) startRuntime(ctx context.Context) error {
	deployment := &appsv1.Deployment{}
	if err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: s.tenant.Name}, deployment); err != nil {
		return fmt.Errorf("reading the tenant's Deployment: %w", err)
	}
	pod := deployment.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		return fmt.Errorf("the pod has %d containers, want 1", len(pod.Containers))
	}
	container := pod.Containers[0]
	root := filepath.Join(s.folder, "pod")
	for _, mount := range container.VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name == mount.Name && volume.Projected != nil {
				if err := s.project(ctx, volume.Projected, filepath.Join(root, mount.MountPath)); err != nil {
					return fmt.Errorf("laying out the volume %s: %w", volume.Name, err)
				}
			}
		}
	}
	arguments := make([]string, 0, len(container.Args)+6)
	for _, argument := range container.Args {
		arguments = append(arguments, strings.ReplaceAll(argument, "/etc/ens", filepath.Join(root, "etc", "ens")))
	}
	arguments = append(arguments, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	var err error
	if s.runtime, err = process.Start(exec.Command(filepath.Join(s.folder, "ens-runtime"), arguments...)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	s.address = s.runtime.Field(ctx, server.ServingMessage, "address")
	return s.waitReady(ctx, s.runtime.Field(ctx, server.ServingMessage, "metrics"))
}

// project writes the sources of a projected volume into folder.
func (s *scene) project(ctx context.Context, volume *corev1.ProjectedVolumeSource, folder string) error {
	for _, source := range volume.Sources {
		var data map[string][]byte
		var items []corev1.KeyToPath
		switch {
		case source.Secret != nil:
			secret := &corev1.Secret{}
			if err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: source.Secret.Name}, secret); err != nil {
				return fmt.Errorf("reading the Secret %s: %w", source.Secret.Name, err)
			}
			data, items = secret.Data, source.Secret.Items
		case source.ConfigMap != nil:
			configMap := &corev1.ConfigMap{}
			if err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: source.ConfigMap.Name}, configMap); err != nil {
				return fmt.Errorf("reading the ConfigMap %s: %w", source.ConfigMap.Name, err)
			}
			data, items = map[string][]byte{}, source.ConfigMap.Items
			for key, text := range configMap.Data {
				data[key] = []byte(text)
			}
		default:
			return errors.New("a source is neither a Secret nor a ConfigMap")
		}
		if err := writeItems(folder, data, items); err != nil {
			return err
		}
	}
	return nil
}

func writeItems(folder string, data map[string][]byte, items []corev1.KeyToPath) error {
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		content, found := data[item.Key]
		if !found {
			return fmt.Errorf("there is no key %s", item.Key)
		}
		path := filepath.Join(folder, item.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) waitReady(ctx context.Context, metrics string) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-s.runtime.Done():
			return errors.New("ens-runtime ended")
		case <-ctx.Done():
			return fmt.Errorf("ens-runtime did not become ready: %w", ctx.Err())
		}
	}
}
