package server

// RemoveOpenAPIData stands in for the method of that name in OpenShift's fork of this module, which no module proxy
// serves: openshift-apiserver takes the OpenAPI data of its delegation chain's head away before it aggregates the others'.
func (s *GenericAPIServer) RemoveOpenAPIData() {
	s.openAPIConfig = nil
	s.openAPIV3Config = nil
}
