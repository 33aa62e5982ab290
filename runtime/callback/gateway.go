package callback

import (
	"context"
	"errors"

	"github.com/ens-operator/ens-operator/runtime/ews"
	"github.com/ens-operator/ens-operator/runtime/store"
)

// A secure email gateway lets a fetch pass if one of the devices it is for is compliant (G-01 to G-18). A device is
// notified only from a fetch that was permitted for it, so that a compromised one learns nothing.

// throughGateway reports whether the user's Exchange is behind a secure email gateway.
func (d *delivery) throughGateway() bool {
	endpoint := d.work.tenant.Endpoint(d.work.endpoint)
	return endpoint != nil && endpoint.SecureEmailGateway != nil
}

// fetchPermitted makes a call for all devices and finds out for which of them it was permitted; where the gateway does not
// say, the call is made once more for each. It fails if no device got an answer, unless all were denied.
func (d *delivery) fetchPermitted(ctx context.Context, call func(*ews.Session) error) error {
	if !d.throughGateway() {
		return call(d.session)
	}
	devices := d.target.Devices
	if len(devices) > 1 && d.session.NamesNone() {
		return d.fetchForEach(ctx, devices, call)
	}
	ids := make([]string, len(devices))
	for i, device := range devices {
		ids[i] = device.ID
	}
	d.session.SetDevices(ids...)
	err := call(d.session)
	if deniedByGateway(err) {
		d.deny(ctx, devices, err)
		return err
	}
	if err != nil {
		return err
	}
	var unnamed []store.Device
	for _, device := range devices {
		if permitted, known := d.session.Verdict(device.ID); known {
			d.permit(device.Ref, permitted)
		} else {
			unnamed = append(unnamed, device)
		}
	}
	if err := d.fetchForEach(ctx, unnamed, call); !deniedByGateway(err) {
		return err
	}
	return nil // somebody's device is permitted what has been fetched
}

// fetchForEach makes the call for each of some devices alone. It fails if none is permitted.
func (d *delivery) fetchForEach(ctx context.Context, devices []store.Device, call func(*ews.Session) error) error {
	var denied []store.Device
	var denial error
	for _, device := range devices {
		err := d.fetchFor(device, call)
		switch {
		case deniedByGateway(err):
			denied, denial = append(denied, device), err
		case err != nil:
			return err
		}
	}
	if len(denied) == 0 {
		return nil
	}
	d.deny(ctx, denied, denial)
	if len(denied) < len(devices) {
		return nil
	}
	return denial
}

// fetchFor makes the call for one device alone.
func (d *delivery) fetchFor(device store.Device, call func(*ews.Session) error) error {
	alone := d.work.tenant.Endpoint(d.work.endpoint).Client.Session(d.work.credential, d.work.activity)
	defer alone.Close()
	alone.SetDevices(device.ID)
	err := call(alone)
	if err == nil {
		permitted, known := alone.Verdict(device.ID) // not known if the id could not be named
		d.permit(device.Ref, permitted && known)
	}
	return err
}

func (d *delivery) permit(ref int64, permitted bool) {
	if d.permitted == nil {
		d.permitted = map[int64]bool{}
	}
	d.permitted[ref] = permitted
}

// withheld reports whether the device may not be told what was fetched: a gateway has not permitted it.
func (d *delivery) withheld(device store.Device) bool {
	return d.throughGateway() && !d.permitted[device.Ref]
}

// deny takes note that a gateway refused devices.
func (d *delivery) deny(ctx context.Context, devices []store.Device, err error) {
	for _, device := range devices {
		d.permit(device.Ref, false)
	}
	d.processor.log.WarnContext(ctx, "The secure email gateway does not permit the user's devices", "devices", len(devices), "error", err)
	d.processor.note(ctx, d.work, store.ActivityGateway, err.Error())
}

// deniedByGateway reports whether a gateway refused the devices, not the call as such.
func deniedByGateway(err error) bool {
	return errors.Is(err, ews.ErrNotCompliant) || errors.Is(err, ews.ErrDevicesUnknown)
}
