// Package autodiscovertest is a fake of Exchange's Autodiscover service: hosts with names, certificates and users, for
// tests and the demo.
//
//	service := autodiscovertest.StartT(t, autodiscovertest.Options{})
//	service.AddHost("autodiscover.example.com", autodiscovertest.Host{Forms: autodiscovertest.AllForms})
//	service.AddUser(autodiscovertest.User{Address: "alice@example.com", Password: "secret", EWSURL: exchange.URL()})
//
// All hosts share one loopback listener for HTTPS and one for plain HTTP. Clients reach them with DialContext, which maps
// names to the listeners and knows no others, verify them with Roots, and find service records with LookupSRV.
//
// It is strict: methods, paths, headers, namespaces and bodies have to be what the real service takes, credentials right.
// It is awkward on purpose within what real servers do: namespace prefixes, the order of protocols, settings that nobody
// asked for, compression and chunks are drawn from a seed that is told at the start. Options.Calm turns that off.
//
// A Fault makes a host misbehave: redirects to anywhere, answers of any content, endless 401, a tarpit. All requests and
// all dialled addresses are recorded, with whether there was a credential in them. It never prints a password.
package autodiscovertest
