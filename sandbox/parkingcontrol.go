package sandbox

import "net/http"

// parkingRoutes adds the control endpoints of parking.
func (p *Platform) parkingRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sandbox/control/plates", loopbackOnly(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Plates())
	}))
	mux.HandleFunc("GET /sandbox/control/parkings", loopbackOnly(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, p.Parkings())
	}))
	mux.HandleFunc("POST /sandbox/control/plate", command(func(_ *http.Request, in Plate) (any, error) {
		return p.SetPlate(in)
	}))
	mux.HandleFunc("POST /sandbox/control/parking-flip", command(func(_ *http.Request, in struct {
		Parking string       `json:"parking"`
		State   ParkingState `json:"state"`
		Reason  BlockReason  `json:"block_reason"`
		Faults  Faults       `json:"faults"`
	}) (any, error) {
		return p.FlipParking(in.Parking, in.State, in.Reason, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/charge", command(func(_ *http.Request, in struct {
		Order  string      `json:"order"`
		State  ChargeState `json:"state"`
		Faults Faults      `json:"faults"`
	}) (any, error) {
		return p.SettleCharge(in.Order, in.State, in.Faults)
	}))
	mux.HandleFunc("POST /sandbox/control/charge-plan", command(func(_ *http.Request, in ChargePlan) (any, error) {
		return done{true}, p.PlanCharges(in)
	}))
}
